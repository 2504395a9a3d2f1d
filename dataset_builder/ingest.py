"""First step: read the source once, keep what can be used as parts under `work/`, and find what occurs twice."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from wildreward.dataset_builder import records
from wildreward.dataset_builder.parts import read_columns, write_parts
from wildreward.dataset_builder.records import Conversation, Rejected
from wildreward.dataset_builder.sources.base import Layout
from wildreward.dataset_builder.sources.readers import Losses, Slice, read_slice
from wildreward.dataset_builder.turns import examine
from wildreward.files import read_json, write_json

ENOUGH_TO_SPLIT = 50  # conversations


def usable(rows: Iterable[Any], layout: Layout, max_words: int, counts: Counter) -> Iterator[Conversation]:
    """Conversations among the source's records; the others are counted by reason."""
    for row in rows:
        counts["records"] += 1
        conversation = layout.to_conversation(row)
        if isinstance(conversation, Rejected):
            counts[f"rejected.{conversation.reason}"] += 1
            continue
        counts["conversations"] += 1
        counts["truncated"] += conversation.truncated
        examine(conversation, max_words)
        yield conversation


def ingest_slice(
    piece: Slice, layout: Layout, folder: Path, name: str, *, max_words: int, skip: bool, limit: int | None = None
) -> int:
    """Write the parts of one slice and, last, `<name>.json`, which says that they are complete.

    Returns:
        the number of usable conversations.
    """
    marker = folder / f"{name}.json"
    if not marker.exists():
        losses, counts = Losses(skip), Counter()
        rows = read_slice(piece, layout.wanted(), losses)
        parts = write_parts(islice(usable(rows, layout, max_words, counts), limit), folder / name)
        counts.update({f"lost.{reason}": count for reason, count in losses.counts.items()})
        write_json(marker, {"slice": asdict(piece), "parts": parts, "counts": dict(counts)})
    return read_json(marker)["counts"].get("conversations", 0)


def ingested_parts(folder: Path) -> tuple[list[Path], Counter]:
    """All parts in order, and the counts of all slices together."""
    parts: list[Path] = []
    counts: Counter = Counter()
    for marker in sorted(folder.glob("*.json")):
        found = read_json(marker)
        parts += [folder / name for name in found["parts"]]
        counts.update(found["counts"])
    return parts, counts


def find_repeats(parts: list[Path]) -> dict[str, dict[str, list[int]]]:
    """Which rows are copies of a conversation kept elsewhere, and which have a source id that is not unique.

    Of equal conversations the one with the smallest hash of its other fields stays, so the order of the parts does not
    matter. Memory: about 60 bytes a conversation.

    Returns:
        part name → {"drop": row numbers, "renamed": row numbers}, for parts that have any.
    """
    columns = ("content_key", "id_key", "tie_key")
    tables = [read_columns(part, list(columns)) for part in parts]
    if not tables:
        return {}
    sizes = np.array([len(table) for table in tables])
    content, ids, ties = (
        np.concatenate([table[name].combine_chunks().to_numpy() for table in tables]) for name in columns
    )
    order = np.lexsort((ties, content))
    is_copy = np.zeros(len(content), bool)
    is_copy[order[1:]] = content[order[1:]] == content[order[:-1]]
    kept = np.flatnonzero(~is_copy)
    _, inverse, occurrences = np.unique(ids[kept], return_inverse=True, return_counts=True)
    renamed = kept[occurrences[inverse] > 1]
    repeats: dict[str, dict[str, list[int]]] = {}
    starts = np.concatenate([[0], np.cumsum(sizes)])
    for kind, rows in (("drop", np.flatnonzero(is_copy)), ("renamed", renamed)):
        which = np.searchsorted(starts, rows, side="right") - 1
        for part, row in zip(which.tolist(), (rows - starts[which]).tolist(), strict=True):
            repeats.setdefault(parts[part].name, {"drop": [], "renamed": []})[kind].append(row)
    return repeats


def naming_key(parts: list[Path]) -> str:
    """A key for the names under which users are published, which nobody can have who has not all conversations.

    The same for the same conversations, whatever the order of the files; copies do not count.
    """
    keys = [read_columns(part, ["content_key"])["content_key"].to_numpy() for part in parts]
    return hashlib.blake2b(np.unique(np.concatenate(keys)).tobytes(), digest_size=16).hexdigest()


def count_users(parts: list[Path]) -> dict[str, int]:
    """Conversations `with` and `without` a user, how many `users` there are, and the conversations of the `largest`."""
    columns = [read_columns(part, ["user_id"])["user_id"].to_pylist() for part in parts]
    users = np.fromiter((int(user, 16) for column in columns for user in column if user), np.uint64)
    counts = np.unique(users, return_counts=True)[1]
    without = sum(map(len, columns)) - len(users)
    return {"with": len(users), "without": without, "users": len(counts), "largest": int(max(counts, default=0))}


def doubt_about_users(found: dict[str, int]) -> str:
    """What to say when no conversation has a user, or most seem to be one user's, as `count_users` found: the split is then
    not what it should be. "" otherwise.
    """
    if not found["with"]:
        return (
            "no conversation says who its user is, so a user of several may be in both train and test; if a column tells "
            "users apart, name it with --user-column"
        )
    if found["with"] >= ENOUGH_TO_SPLIT and found["largest"] > found["with"] / 2:
        return (
            f"{found['largest']} of {found['with']} conversations with a user have the same one, so they end up on the same "
            "side of the split; if that is not so, name the column that tells users apart with --user-column"
        )
    return ""


def dropped_conversations(counts: Counter, repeats: dict[str, dict[str, list[int]]]) -> dict[str, int]:
    """Reasons why records of the source are not among the conversations, with how often each occurred."""
    dropped = {key.split(".", 1)[1]: value for key, value in sorted(counts.items()) if key.startswith("rejected.")}
    copies = sum(len(rows["drop"]) for rows in repeats.values())
    if copies:
        dropped[records.DUPLICATE_CONVERSATION] = copies
    return dropped


def write_repeats(path: Path, repeats: dict[str, dict[str, list[int]]]) -> None:
    write_json(path, repeats)


def read_repeats(path: Path) -> dict[str, dict[str, list[int]]]:
    return json.loads(path.read_text())
