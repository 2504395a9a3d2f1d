"""The files under `work/`: conversations in the pipeline's own form, cut into parts that fit into memory.

A *part* is a parquet file of up to `MAX_ROWS` conversations or `MAX_CHARS` characters; every later step reads and
writes part by part. Three hashes go with each conversation, so that what occurs twice is found without its text.
"""

import hashlib
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wildreward.dataset_builder.labelers.base import ChatMessage
from wildreward.dataset_builder.records import Conversation
from wildreward.files import atomic_path

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ROWS = 1_000
MAX_CHARS = 12_000_000
_LETTERS = {"system": "s", "user": "u", "assistant": "a"}
_ROLES = {letter: role for role, letter in _LETTERS.items()}


def hash64(*texts: str) -> int:
    """A signed 64-bit hash of texts, the same on every machine."""
    if len(texts) == 1:
        digest = hashlib.blake2b(texts[0].encode(errors="replace"), digest_size=8)
    else:
        pieces = [text.encode(errors="replace") for text in texts]
        framed = b"".join([part for data in pieces for part in (len(data).to_bytes(8, "little"), data)])
        digest = hashlib.blake2b(framed, digest_size=8)
    return int.from_bytes(digest.digest(), "little", signed=True)


def hex_of(key: int) -> str:
    """Sixteen hexadecimal digits of a `hash64`."""
    return f"{key & (2**64 - 1):016x}"


def schema():  # noqa: ANN201 - pyarrow is imported late
    import pyarrow as pa

    return pa.schema(
        [
            ("source_id", pa.string()),
            ("user_id", pa.string()),
            ("language", pa.string()),
            ("short_turns", pa.int32()),
            ("model", pa.string()),
            ("roles", pa.string()),
            ("contents", pa.list_(pa.string())),
            ("languages", pa.list_(pa.string())),
            ("content_key", pa.int64()),
            ("id_key", pa.int64()),
            ("tie_key", pa.int64()),
        ]
    )


def write_parts(conversations: Iterable[Conversation], stem: Path) -> list[str]:
    """Write `<stem>-<n>.parquet`, each complete or absent. Returns the file names."""
    names: list[str] = []
    rows: list[dict] = []
    size = 0
    for conversation in conversations:
        rows.append(_row(conversation))
        size += sum(len(message.content) for message in conversation.messages)
        if len(rows) >= MAX_ROWS or size >= MAX_CHARS:
            names.append(_write(rows, stem, len(names)))
            rows, size = [], 0
    if rows:
        names.append(_write(rows, stem, len(names)))
    return names


def read_part(
    path: Path, drop: Iterable[int] = (), renamed: Iterable[int] = (), wanted: Container[int] | None = None
) -> Iterator[Conversation]:
    """The conversations of a part.

    Args:
        path: the part.
        drop: row numbers to leave out (copies of conversations kept elsewhere).
        renamed: row numbers whose source id other conversations share: their content joins the id.
        wanted: row numbers whose text is needed (default: all); the others come with empty messages.
    """
    import pyarrow.parquet as pq

    drop, renamed = set(drop), set(renamed)
    row_number = -1
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=256):
            for row in _rows(batch, row_number + 1, wanted):
                row_number += 1
                if row_number not in drop:
                    yield _conversation(row, row_number in renamed)


def turn_counts(path: Path, drop: Iterable[int] = ()) -> list[tuple[int, int]]:
    """(row number, number of turns) of the conversations that `read_part` gives, without reading their text."""
    dropped = set(drop)
    roles = read_columns(path, ["roles"])["roles"].to_pylist()
    return [(row, _turns(text)) for row, text in enumerate(roles) if row not in dropped]


def read_columns(path: Path, columns: list[str] | None = None) -> "pa.Table":
    """A small parquet file. (`pyarrow.parquet.read_table` would import pandas, a second in every process.)"""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return file.read(columns)


def _turns(roles: str) -> int:
    return max(0, roles.count("u") - 1)


def _rows(batch: Any, first: int, wanted: Container[int] | None) -> Iterator[dict]:
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


def _write(rows: list[dict], stem: Path, number: int) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = stem.with_name(f"{stem.name}-{number:05d}.parquet")
    table = pa.Table.from_pylist(rows, schema=schema())
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=1, row_group_size=256)
    return path.name


def _row(conversation: Conversation) -> dict:
    contents = [message.content for message in conversation.messages]
    roles = "".join(_LETTERS[message.role] for message in conversation.messages)
    content_key = hash64(roles, *contents)
    meta = [conversation.source_id, conversation.user_id, conversation.language, conversation.model]
    return {
        "source_id": conversation.source_id,
        "user_id": conversation.user_id,
        "language": conversation.language,
        "short_turns": conversation.short_turns,
        "model": conversation.model,
        "roles": roles,
        "contents": contents,
        "languages": conversation.message_languages,
        "content_key": content_key,
        "id_key": hash64(conversation.source_id) if conversation.source_id else content_key,
        "tie_key": hash64(*map(repr, meta)),
    }


def _conversation(row: dict, renamed: bool) -> Conversation:
    source_id, content = row["source_id"], hex_of(row["content_key"])
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
        short_turns=row["short_turns"],
        conversation_id=conversation_id,
    )
