"""Conversations in the pipeline's own form, in shards that fit into memory; what occurs twice among them, and their users.

A shard is a parquet file of up to `MAX_ROWS` conversations or `MAX_CHARS` characters; every later stage reads and writes
shard by shard. Three hashes go with each conversation, so that copies and shared ids are found without the text.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wildreward.common.llm.quoting import ChatMessage
from wildreward.dataset_builder.labelers.rating import NOT_ON_AN_ANSWER, SAYS_NOTHING, UNKNOWN
from wildreward.dataset_builder.records import ROLE_LETTERS, Conversation, turn_places
from wildreward.dataset_builder.schemas import CONVERSATION, read_rows, write_rows
from wildreward.dataset_builder.text import hash64

MAX_ROWS = 1_000
MAX_CHARS = 12_000_000
ENOUGH_TO_SPLIT = 50  # conversations
_ROLES = {letter: role for role, letter in ROLE_LETTERS.items()}


@dataclass(frozen=True)
class Shard:
    """A shard and which of its rows are special.

    Attributes:
        path: the parquet file.
        drop: row numbers of copies of conversations that are kept elsewhere.
        renamed: row numbers whose source id other conversations share: their content joins the id.
        levels: what a rating is worth, for all that are worth anything.
    """

    path: Path
    drop: Collection[int] = field(default_factory=frozenset)
    renamed: Collection[int] = field(default_factory=frozenset)
    levels: Mapping[str, int | None] = field(default_factory=dict)

    def conversations(self, wanted: Collection[int] | None = None) -> Iterator[Conversation]:
        """Those that are kept; with empty messages where the row is not among the `wanted` (default: all are)."""
        number = -1
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=256):
                for row in _rows(batch, number + 1, wanted):
                    number += 1
                    if number not in self.drop:
                        yield _conversation(row, number in self.renamed, self.levels)

    def turn_counts(self) -> list[tuple[int, int, bool]]:
        """(row number, number of turns, whether any has a rating other than neutral) of what `conversations` gives, without
        reading any text."""
        found = []
        for row, (roles, ratings) in enumerate(_ratings_in(self.path)):
            if row not in self.drop:
                levels = [self.levels.get(rating) for rating in ratings or ()]
                count = len(turn_places(roles, bool(levels and levels[-1])))
                found.append((row, count, any(level not in (3, None) for level in levels)))
        return found


def write_shards(conversations: Iterable[Conversation], stem: Path) -> list[str]:
    """Write `<stem>-<n>.parquet`, each complete or absent. Returns the file names."""
    names: list[str] = []
    rows: list[dict] = []
    size = 0

    def write() -> None:
        names.append(f"{stem.name}-{len(names):05d}.parquet")
        write_rows(stem.with_name(names[-1]), rows, CONVERSATION)

    for conversation in conversations:
        rows.append(_row(conversation))
        size += sum(len(message.content) for message in conversation.messages)
        if len(rows) >= MAX_ROWS or size >= MAX_CHARS:
            write()
            rows, size = [], 0
    if rows:
        write()
    return names


def find_repeats(shards: list[Path]) -> list[dict[str, list[int]]]:
    """Which rows are copies of a conversation kept elsewhere, and which have a source id that is not unique.

    Of equal conversations the one with the smallest hash of its other fields stays, so the order of the shards does not
    matter. Memory: about 60 bytes a conversation.

    Returns:
        `drop` and `renamed` of each shard, see `Shard`.
    """
    columns = ("content_key", "id_key", "tie_key")
    tables = [read_rows(shard, list(columns)) for shard in shards]
    content, ids, ties = (
        np.concatenate([table[name].combine_chunks().to_numpy() for table in tables]) for name in columns
    )
    order = np.lexsort((ties, content))
    is_copy = np.zeros(len(content), bool)
    is_copy[order[1:]] = content[order[1:]] == content[order[:-1]]
    kept = np.flatnonzero(~is_copy)
    _, inverse, occurrences = np.unique(ids[kept], return_inverse=True, return_counts=True)
    is_renamed = np.zeros(len(content), bool)
    is_renamed[kept[occurrences[inverse] > 1]] = True
    ends = np.cumsum([len(table) for table in tables])[:-1]
    both = zip(np.split(is_copy, ends), np.split(is_renamed, ends), strict=True)
    return [{"drop": np.flatnonzero(d).tolist(), "renamed": np.flatnonzero(r).tolist()} for d, r in both]


def naming_key(shards: list[Path]) -> str:
    """A key for the names under which users are published, which nobody can have who has not all conversations.

    The same for the same conversations, whatever the order of the files; copies do not count.
    """
    keys = [read_rows(shard, ["content_key"])["content_key"].to_numpy() for shard in shards]
    return hashlib.blake2b(np.unique(np.concatenate(keys)).tobytes(), digest_size=16).hexdigest()


def count_ratings(shards: dict[Path, Collection[int]]) -> tuple[Counter, Counter]:
    """How often each rating occurs on answers, and on what else; shards with the rows in them that are dropped."""
    counts: dict[bool, Counter] = {True: Counter(), False: Counter()}
    for path, drop in shards.items():
        for row, (roles, ratings) in enumerate(_ratings_in(path)):
            if ratings and row not in drop:
                for role, rating in zip(roles, ratings, strict=True):
                    if rating is not None:
                        counts[role == "a"][rating] += 1
    return counts[True], counts[False]


def unused_ratings(shards: dict[Path, Collection[int]], levels: Mapping[str, int | None]) -> Iterator[dict[str, Any]]:
    """Where the ratings are that cannot be used: rows of `schemas.UNUSED`; shards with the rows in them that are dropped."""
    for path, drop in shards.items():
        names = read_rows(path, ["source_id"])["source_id"].to_pylist()
        for row, (roles, ratings) in enumerate(_ratings_in(path)):
            for place, rating in enumerate(ratings or ()):
                if rating is not None and row not in drop and (roles[place] != "a" or not levels.get(rating)):
                    reason = NOT_ON_AN_ANSWER if roles[place] != "a" else SAYS_NOTHING if rating in levels else UNKNOWN
                    yield {"shard": path.name, "row": row, "source_id": names[row], "message": place, "reason": reason}


def _ratings_in(path: Path) -> Iterator[tuple[str, list[str | None] | None]]:
    """Roles and ratings of each row."""
    table = read_rows(path, ["roles", "ratings"])
    return zip(table["roles"].to_pylist(), table["ratings"].to_pylist(), strict=True)


def count_users(shards: list[Path]) -> dict[str, int]:
    """Conversations `with` and `without` a user, how many `users` there are, and the conversations of the `largest`."""
    columns = [read_rows(shard, ["user_id"])["user_id"].to_pylist() for shard in shards]
    users = np.fromiter((int(user, 16) for column in columns for user in column if user), np.uint64)
    counts = np.unique(users, return_counts=True)[1]
    without = sum(map(len, columns)) - len(users)
    return {"with": len(users), "without": without, "users": len(counts), "largest": int(max(counts, default=0))}


def doubt_about_users(found: Mapping[str, int]) -> str:
    """What to say when no conversation has a user, or all or most seem to be one user's, as `count_users` found: the split is
    then not what it should be. "" otherwise.
    """
    if not found["with"]:
        return (
            "no conversation says who its user is, so a user of several may be in both train and test; if a column tells "
            "users apart, name it with --user-column"
        )
    if found["users"] == 1:
        return (
            f"all {found['with']} conversations with a user have the same one, so they are split by how they begin and not by "
            "user; if a column tells users apart, name it with --user-column"
        )
    if found["with"] >= ENOUGH_TO_SPLIT and found["largest"] > found["with"] / 2:
        return (
            f"{found['largest']} of {found['with']} conversations with a user have the same one, so they end up on the same "
            "side of the split; if that is not so, name the column that tells users apart with --user-column"
        )
    return ""


def _rows(batch: pa.RecordBatch, first: int, wanted: Collection[int] | None) -> Iterator[dict]:
    """Rows of a record batch; only the text that is wanted is turned into Python strings."""
    plain = batch.drop_columns(["contents"]).to_pylist()
    contents = batch.column("contents")
    offsets, texts = contents.offsets.to_pylist(), contents.values
    whole = texts.to_pylist() if wanted is None else None
    for number, row in enumerate(plain):
        start, stop = offsets[number], offsets[number + 1]
        if whole is not None:
            row["contents"] = whole[start:stop]
        elif first + number in wanted:
            row["contents"] = texts.slice(start, stop - start).to_pylist()
        else:
            row["contents"] = [""] * (stop - start)
        yield row


def _row(conversation: Conversation) -> dict:
    contents = [message.content for message in conversation.messages]
    roles = conversation.roles
    content_key = hash64(roles, *contents)
    meta = [
        conversation.source_id,
        conversation.user_id,
        conversation.language,
        conversation.model,
        conversation.ratings,
    ]
    tie = hash64(*map(repr, meta)) >> 1
    return {
        "source_id": conversation.source_id,
        "user_id": conversation.user_id,
        "language": conversation.language,
        "num_turns_within_limit": conversation.num_turns_within_limit,
        "model": conversation.model,
        "roles": roles,
        "contents": contents,
        "languages": conversation.message_languages,
        "ratings": conversation.ratings,
        "flagged": list(conversation.flagged.items()),
        "branch_of": conversation.branch_of,
        "content_key": content_key,
        "id_key": hash64(conversation.source_id) if conversation.source_id else content_key,
        "tie_key": tie - 2**62 if conversation.ratings else tie + 2**62,  # of copies, one with ratings stays
    }


def _conversation(row: dict, renamed: bool, levels: Mapping[str, int | None]) -> Conversation:
    source_id, content = row["source_id"], f"{row['content_key'] & (2**64 - 1):016x}"
    conversation_id = source_id or content
    if source_id and renamed:
        conversation_id = f"{source_id}-{content}"
    messages = [ChatMessage(_ROLES[letter], text) for letter, text in zip(row["roles"], row["contents"], strict=True)]
    return Conversation(
        source_id=source_id,
        user_id=row["user_id"],
        language=row["language"],
        model=row["model"],
        messages=messages,
        message_languages=row["languages"],
        num_turns_within_limit=row["num_turns_within_limit"],
        ratings=[levels.get(rating) for rating in row["ratings"]] if row["ratings"] and levels else None,
        flagged=dict(row["flagged"] or ()),
        branch_of=row["branch_of"],
        conversation_id=conversation_id,
    )
