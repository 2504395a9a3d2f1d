"""Exact and near-duplicate turns. What a turn is compared by travels as a few 64-bit numbers, not as text.

Near-duplicates are found by MinHash over word triples: the share of equal entries of two signatures estimates how many
triples two texts share. Queries and responses both have to resemble each other: two answers to one request are what a
reward model learns from, however long the request they share. Nor are turns near-duplicates of which one was praised and
the other was not: a single sign may tell right code from wrong. Signatures are cut into bands, and only turns that agree
in a whole band, of the query and of the response, are compared. Of turns that resemble each other, the one whose id hashes
lowest stays, so the outcome does not depend on the order or the number of shards.
"""

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from wildreward.dataset_builder.records import Turn
from wildreward.dataset_builder.schemas import PERMUTATIONS, TEXTS, read_rows
from wildreward.dataset_builder.text import hash64

DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near_duplicate"
VERSION = 2  # raise when other turns count as near-duplicates
BANDS = (8, 16, 32, 64)  # more of them find what resembles less, and compare more turns
SHINGLE = 3
_TOKEN = re.compile("[\u3400-\u9fff]|\\w+|[^\\w\\s]")  # in code and formulas, signs decide
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


def duplicates_among(candidates: Sequence[Path], near: float) -> list[dict[int, str]]:
    """Which rows of each file of candidates to leave out, with the reason. Memory: about 1.5 kB a candidate.

    Args:
        candidates: files with the columns of `schemas.CANDIDATE`.
        near: similarity of near-duplicates, 0 for exact ones only.
    """
    tables = [read_rows(path, ["id", "level", "exact_key", "signature"]) for path in candidates]
    ids = [id_ for table in tables for id_ in table["id"].to_pylist()]
    exact = [key for table in tables for key in table["exact_key"].to_pylist()]
    positive = [level >= 4 for table in tables for level in table["level"].to_pylist()]
    packed = b"".join(value for table in tables for value in table["signature"].to_pylist())
    signatures = np.frombuffer(packed, np.uint32).reshape(len(ids), TEXTS, PERMUTATIONS) if near else None
    starts = np.cumsum([0, *map(len, tables)])
    dropped: list[dict[int, str]] = [{} for _ in candidates]
    for row, reason in find_duplicates(ids, exact, positive, signatures, near).items():
        file = int(np.searchsorted(starts, row, side="right")) - 1
        dropped[file][row - int(starts[file])] = reason
    return dropped


def find_duplicates(
    ids: Sequence[str],
    exact: Sequence[int],
    positive: Sequence[bool],
    signatures: np.ndarray | None,
    threshold: float,
) -> dict[int, str]:
    """Rows to drop, with the reason code.

    Args:
        ids: of all instances.
        exact: `exact_key` of each.
        positive: whether its label is on the side of praise; near-duplicates are on the same side.
        signatures: (N, 2, 64) `signature` of each, or None to look for exact copies only.
        threshold: smallest estimated Jaccard similarity of near-duplicates, of their queries and of their responses.
    """
    keys = shared = None
    if signatures is not None:
        keys = band_keys(signatures, bands_for(threshold), np.asarray(positive))
        shared = _occur_again(keys)
    order = np.argsort([hash64(id_) for id_ in ids], kind="stable")
    dropped: dict[int, str] = {}
    seen: set[int] = set()
    holders: dict[int, list[int]] = {}
    for row in order.tolist():
        if exact[row] in seen:
            dropped[row] = DUPLICATE
            continue
        seen.add(exact[row])
        if signatures is None or not shared[row].any():
            continue
        own = keys[row, shared[row]].tolist()
        near = {other for key in own for other in holders.get(key, ())}
        if near and (signatures[list(near)] == signatures[row]).mean(axis=2).min(axis=1).max() >= threshold:
            dropped[row] = NEAR_DUPLICATE
            continue
        for key in own:
            holders.setdefault(key, []).append(row)
    return dropped


def band_keys(signatures: np.ndarray, bands: int, positive: np.ndarray) -> np.ndarray:
    """(N, bands) 64-bit numbers, equal where two turns on the same side agree in a whole band of both texts.

    Args:
        signatures: (N, 2, 64) uint32.
        bands: a divisor of 64.
        positive: (N,) bool.
    """
    rows = PERMUTATIONS // bands
    keys = np.arange(bands, dtype=np.uint64) * np.uint64(2) + positive.astype(np.uint64)[:, None]
    for text in range(TEXTS):
        for place in range(rows):
            keys = (keys ^ signatures[:, text, place::rows]) * _MIX  # wraps around
            keys ^= keys >> np.uint64(29)
    return keys


def _occur_again(keys: np.ndarray) -> np.ndarray:
    """Where a number occurs in another row of its column, too: nothing else needs to be remembered."""
    again = np.zeros(keys.shape, bool)
    for band, column in enumerate(keys.T):
        _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
        again[:, band] = counts[inverse] > 1
    return again


def bands_for(threshold: float) -> int:
    """Into how many bands to cut signatures, so that no pair with an estimate from `threshold` on is missed.

    Such a pair differs in at most 64 - 64·threshold entries of each text; where there are more bands than that, one agrees
    in both. For thresholds t up to 0.5 the most bands are taken: two random turns agree in one of them with probability
    1 - (1 - t²)⁶⁴, 0.998 at t = 0.3.
    """
    differing = TEXTS * (PERMUTATIONS - math.ceil(PERMUTATIONS * threshold))
    return next((bands for bands in BANDS if bands > differing), BANDS[-1])
