"""From records of the source to conversations in shards: each is read once; what cannot be used, and what was changed in
reading, is counted by reason and listed with its place.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wildreward.common.chat import REASONING, ROLES
from wildreward.common.errors import described
from wildreward.common.files import atomic_path, make_folder, read_json, write_json
from wildreward.common.words import count_words
from wildreward.dataset_builder.records import (
    DUPLICATE_CONVERSATION,
    EMPTY_CONTENT,
    NOT_A_RECORD,
    UNKNOWN_ROLE,
    Conversation,
    Rejected,
)
from wildreward.dataset_builder.schemas import PLACES, read_rows, write_rows
from wildreward.dataset_builder.shards import write_shards
from wildreward.dataset_builder.sources.files import InputErrors
from wildreward.dataset_builder.sources.finding import shown_names
from wildreward.dataset_builder.sources.layouts import ROW, Columns, Layout, at, parsed
from wildreward.dataset_builder.sources.readers import FIRST_RECORDS, Slice, read_slice
from wildreward.dataset_builder.text import detect_language, guess_language

ENOUGH = 200  # characters that tell the language


def read_into_shards(
    piece: Slice,
    layout: Layout,
    stem: Path,
    *,
    max_words: int,
    skip: bool,
    limit: int | None = None,
    keep_reasoning: bool = False,
) -> int:
    """Write the shards of one slice, `<stem>-<n>.parquet`, what was lost or changed in it (`places_of`), and last `<stem>.json`,
    which says that they are complete.

    Returns:
        the number of usable conversations.
    """
    marker = stem.with_suffix(".json")
    if not marker.exists():
        errors, counts, places = InputErrors(skip), Counter(), Places(piece)
        rows = layout.rows(read_slice(piece, layout.wanted(), errors))
        found = usable(rows, layout, max_words, counts, places, keep_reasoning)
        shards = write_shards(islice(found, limit), stem)
        write_rows(places_of(stem), places.rows, PLACES)
        counts.update({f"lost.{reason}": count for reason, count in errors.counts.items()})
        write_json(marker, {"shards": shards, "counts": dict(counts)})
    return read_json(marker)["counts"].get("conversations", 0)


def places_of(stem: Path) -> Path:
    """The file with the places of a slice, for the stem of its shards."""
    return make_folder(stem.parent / "places") / f"{stem.name}.parquet"


class Places:
    """Where in a slice something was lost or changed: rows of `schemas.PLACES`."""

    def __init__(self, piece: Slice | None = None) -> None:
        self.source, self.start = (piece.path, piece.start) if piece else ("", 0)
        self.rows: list[dict[str, Any]] = []

    def add(self, record: int, source_id: str | None, what: str, message: int | None = None) -> None:
        """Note what became of a record, or of one of its messages."""
        place = {"source": self.source, "start": self.start, "record": record, "id": source_id, "message": message}
        self.rows.append(place | {"what": what})


def write_places(path: Path, folder: Path, repeats: Mapping[str, Mapping[str, list[int]]]) -> None:
    """One file with the places of all slices, and the ids of the copies of conversations that are left out.

    Args:
        path: to write.
        folder: with the shards.
        repeats: of each shard, see `shards.find_repeats`.
    """
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, PLACES, compression="zstd") as writer:
        for marker in sorted(folder.glob("*.json")):
            writer.write_table(read_rows(places_of(marker.with_suffix(""))))
        for name, rows in repeats.items():
            if rows["drop"]:
                ids = read_rows(folder / name, ["source_id"])["source_id"].take(rows["drop"])
                copies = [{"id": id_, "what": DUPLICATE_CONVERSATION} for id_ in ids.to_pylist()]
                writer.write_table(pa.Table.from_pylist(copies, schema=PLACES))


def usable(
    rows: Iterable[Any],
    layout: Layout,
    max_words: int,
    counts: Counter,
    places: Places | None = None,
    keep_reasoning: bool = False,
) -> Iterator[Conversation]:
    """Conversations among the source's records; the others are counted by reason.

    Args:
        rows: of one slice.
        layout: of the source.
        max_words: see `examine`.
        counts: gets `records`, `conversations`, `truncated`, `rejected.<reason>`, `messages_lost.<reason>` and
            `messages_changed.<what>`.
        places: gets the same with their places, but for reasoning, which may be in every message.
        keep_reasoning: see `common.chat`.
    """
    places = places or Places()
    for number, row in enumerate(rows):
        counts["records"] += 1
        conversation = layout.to_conversation(row, keep_reasoning)
        if isinstance(conversation, Rejected):
            counts[f"rejected.{conversation.reason}"] += 1
            places.add(number, conversation.source_id, conversation.reason)
            continue
        counts["conversations"] += 1
        if conversation.truncated:
            counts["truncated"] += 1
            places.add(number, conversation.source_id, "truncated")
        reading = conversation.reading
        if reading is not None and (reading.lost or reading.notes):
            for kind, notes in (("messages_lost", reading.lost), ("messages_changed", reading.notes)):
                for place, what in notes:
                    counts[f"{kind}.{what}"] += 1
                    if what != REASONING:
                        places.add(number, conversation.source_id, what, place)
        conversation.reading = None
        examine(conversation, max_words)
        yield conversation


def examine(conversation: Conversation, max_words: int) -> None:
    """Find out once what needs the text: the language where the source tells none, and how many turns fit.

    Args:
        conversation: `language` and `num_turns_within_limit` are set.
        max_words: longest history, query and response together.
    """
    if conversation.language is None and conversation.message_languages is None:
        conversation.language = _language(conversation)
    words = sum(count_words(message.content) for message in conversation.messages[: conversation.first])
    for turn in conversation.turns():
        words += count_words(turn.query) + count_words(turn.response)
        if words > max_words:
            return
        conversation.num_turns_within_limit = turn.number + 1


def _language(conversation: Conversation) -> str | None:
    """By the script of what the user says first; else what the user writes in, or both where that is little."""
    chat = conversation.messages[conversation.first :]
    if found := guess_language(chat[0].content):
        return found
    said = "\n".join([message.content[:ENOUGH] for message in chat[:9] if message.role == "user"])
    if len(said) < ENOUGH and len(chat) > 1:
        said += "\n" + chat[1].content[:ENOUGH]
    return detect_language(said)


def why_unusable(layout: Layout, pieces: Sequence[Slice], counts: Counter) -> str:
    """Why no record of a source can be used: by the keys and types of its messages, never by what they say.

    Args:
        layout: of the source.
        pieces: all of the source.
        counts: reasons of `usable`, of which the most frequent is explained.

    Returns:
        what the first records hold where messages were looked for, and what was expected; "" where that is no reason.
    """
    rejected = {key.removeprefix("rejected."): count for key, count in counts.items() if key.startswith("rejected.")}
    reason = max(rejected, key=rejected.__getitem__, default="")
    records = chain.from_iterable(read_slice(piece, layout.wanted(), InputErrors(skip=True)) for piece in pieces)
    rows, columns = layout.rows(records), ROW if layout.convert else layout.columns
    found = [parsed(at(row, columns.messages)) if isinstance(row, dict) else row for row in islice(rows, FIRST_RECORDS)]
    if reason == NOT_A_RECORD:
        return _no_messages(found, columns)
    messages = [message for value in found if isinstance(value, list) for message in value if isinstance(message, dict)]
    keys = {str(key) for message in messages for key in message}
    absent = [f"{columns.role} (--role_key)"] if columns.role not in keys else []
    absent += [f"{columns.content} (--content_key)"] if columns.content not in keys else []
    if reason in (UNKNOWN_ROLE, EMPTY_CONTENT) and absent:
        return f"its messages have the keys {shown_names(keys)}, but not {' and '.join(absent)}"
    if reason == UNKNOWN_ROLE:
        return f"roles are looked for under the key {columns.role} (--role_key); expected one of {', '.join(ROLES)}"
    return ""


def _no_messages(found: list[Any], columns: Columns) -> str:
    expected = f"expected a list of objects with {columns.role} and {columns.content}"
    for value in found:
        if not isinstance(value, list):
            hint = ", also as JSON in a text, or another column (--messages-column)"
            return f"{columns.messages} is {described(value)}; {expected}{hint}"
        for message in value:
            if not isinstance(message, dict):
                return f"{columns.messages} holds {described(message)}; {expected}"
    return ""
