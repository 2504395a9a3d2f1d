"""Exact and near-duplicate turns. What a turn is compared by travels as a few 64-bit numbers, not as text.

Near-duplicates are found by MinHash over word triples: the share of equal entries of two signatures estimates how many
triples two texts share. Queries and responses both have to resemble each other: two answers to one request are what a
reward model learns from, however long the request they share. Signatures of responses are cut into bands, and only turns
that agree in a whole band are compared. Of turns that resemble each other, the one whose id hashes lowest stays, so the
outcome does not depend on the order or the number of shards.
"""

import math
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from wildreward.dataset_builder.parts import hash64
from wildreward.dataset_builder.records import DUPLICATE, NEAR_DUPLICATE, Turn

VERSION = 2  # raise when other turns count as near-duplicates
PERMUTATIONS = 64  # of each text
TEXTS = 2  # of a turn: query and response
BANDS = (8, 16, 32)  # more of them find what resembles less, and compare more turns
SHINGLE = 3
_TOKEN = re.compile("[\u3400-\u9fff]|\\w+")
_MAX_TOKENS = 4_000


def _multipliers() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.Generator(np.random.PCG64(20260209))
    draw = generator.integers(1, 2**63, size=(2, PERMUTATIONS), dtype=np.uint64)
    return draw[0] | np.uint64(1), draw[1]


_MIX = np.uint64(0x9E3779B97F4A7C15)
_A, _B = _multipliers()


def exact_key(turn: Turn) -> int:
    """Equal for turns with the same history, query and response."""
    return hash64(*(text for message in turn.history for text in message), turn.query, turn.response)


def signature(turn: Turn) -> np.ndarray:
    """MinHash of query and of response (2, 64), uint32: the share of equal entries estimates the Jaccard similarity."""
    texts = (turn.query, turn.response)
    return np.stack([minhash(shingle_hashes(_TOKEN.findall(text.lower())[:_MAX_TOKENS])) for text in texts])


def shingle_hashes(tokens: Sequence[str]) -> np.ndarray:
    """A 64-bit hash for each run of three tokens (one for all of them where there are fewer)."""
    hashes = np.fromiter(map(_token_hash, tokens), np.int64, len(tokens)).view(np.uint64)
    if len(hashes) < SHINGLE:
        return hashes.sum(keepdims=True, dtype=np.uint64)
    runs = len(hashes) - SHINGLE + 1
    mixed = np.zeros(runs, np.uint64)
    for place in range(SHINGLE):
        mixed = (mixed ^ hashes[place : place + runs]) * _MIX  # wraps around
        mixed ^= mixed >> np.uint64(29)
    return mixed


def minhash(hashes: np.ndarray) -> np.ndarray:
    """MinHash (64 × uint32) of a set of 64-bit hashes (N,), N at least 1."""
    lowest = np.full(PERMUTATIONS, np.iinfo(np.uint64).max, np.uint64)
    for start in range(0, len(hashes), 1024):
        mixed = hashes[start : start + 1024, None] * _A  # (n, P), wraps around
        mixed += _B
        np.minimum(lowest, mixed.min(axis=0), out=lowest)
    return (lowest >> np.uint64(32)).astype(np.uint32)


@lru_cache(maxsize=1 << 16)
def _token_hash(token: str) -> int:
    return hash64(token)


def find_duplicates(
    ids: Sequence[str], exact: Sequence[int], signatures: np.ndarray | None, threshold: float
) -> dict[int, str]:
    """Rows to drop, with the reason code.

    Args:
        ids: of all instances.
        exact: `exact_key` of each.
        signatures: (N, 2, 64) `signature` of each, or None to look for exact copies only.
        threshold: smallest estimated Jaccard similarity of near-duplicates, of their queries and of their responses.
    """
    bands = bands_for(threshold)
    rows = PERMUTATIONS // bands
    order = np.argsort([hash64(id_) for id_ in ids], kind="stable")
    dropped: dict[int, str] = {}
    seen: set[int] = set()
    holders: dict[bytes, list[int]] = {}
    for row in order.tolist():
        if exact[row] in seen:
            dropped[row] = DUPLICATE
            continue
        seen.add(exact[row])
        if signatures is None:
            continue
        response = signatures[row, -1]
        keys = [bytes([band]) + response[band * rows : (band + 1) * rows].tobytes() for band in range(bands)]
        near = {other for key in keys for other in holders.get(key, ())}
        if near and (signatures[list(near)] == signatures[row]).mean(axis=2).min(axis=1).max() >= threshold:
            dropped[row] = NEAR_DUPLICATE
            continue
        for key in keys:
            holders.setdefault(key, []).append(row)
    return dropped


def bands_for(threshold: float) -> int:
    """Into how many bands to cut signatures, so that no pair with an estimate from `threshold` on is missed.

    Such a pair differs in at most 64 - 64·threshold entries; where there are more bands than that, one agrees. For
    thresholds t up to 0.5 the most bands are taken: two random responses agree in one of them with probability 1 - (1 - t²)³²,
    0.95 at t = 0.3.
    """
    differing = PERMUTATIONS - math.ceil(PERMUTATIONS * threshold)
    return next((bands for bands in BANDS if bands > differing), BANDS[-1])
