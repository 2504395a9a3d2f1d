"""The Arrow schemas of all that the builder writes, and the rows that go into them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wildreward.common.files import atomic_path
from wildreward.dataset_builder.records import LEVEL_TO_LABEL, Turn

PERMUTATIONS = 64  # numbers of a MinHash signature
TEXTS = 2  # of a turn that have one: query and response
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])

# A conversation in a shard. `roles` is a letter for each message, `ratings` what users gave it in the words of the source; the three hashes find what occurs twice without its text.
CONVERSATION = pa.schema(
    [
        ("source_id", pa.string()),
        ("user_id", pa.string()),
        ("language", pa.string()),
        ("num_turns_within_limit", pa.int32()),
        ("model", pa.string()),
        ("roles", pa.string()),
        ("contents", pa.list_(pa.string())),
        ("languages", pa.list_(pa.string())),
        ("ratings", pa.list_(pa.string())),
        ("flagged", pa.map_(pa.string(), pa.int32())),
        ("branch_of", pa.string()),
        ("content_key", pa.int64()),
        ("id_key", pa.int64()),
        ("tie_key", pa.int64()),
    ]
)
# What was lost or changed in reading: the record by its number in the slice of the source, its id, and the message, if it is
# about one, by its number in the record.
PLACES = pa.schema(
    [
        ("source", pa.string()),
        ("start", pa.int64()),
        ("record", pa.int64()),
        ("id", pa.string()),
        ("message", pa.int32()),
        ("what", pa.string()),
    ]
)
# What a labeler said about each turn of a shard, in the order of the turns.
ANSWERS = pa.schema(
    [
        ("level", pa.int8()),
        ("confidence", pa.float32()),
        ("reason", pa.string()),
        ("verdict", pa.string()),
    ]
)
# Pairs of turns that implicit feedback could connect; no cosine where the encoder cannot read them.
SIMILARITIES = pa.schema(
    [("conversation_id", pa.string()), ("turn", pa.int32()), ("later", pa.int32()), ("cosine", pa.float32())]
)
# Ratings that are not used: the message's place in a conversation of a shard.
UNUSED = pa.schema(
    [
        ("shard", pa.string()),
        ("row", pa.int32()),
        ("source_id", pa.string()),
        ("message", pa.int32()),
        ("reason", pa.string()),
    ]
)
LEVELS = pa.schema(
    [
        ("id", pa.string()),
        ("level", pa.int8()),
        ("confidence", pa.float32()),
        ("labeler", pa.string()),
        ("reason", pa.string()),
        ("refusal", pa.string()),
        ("label_source", pa.string()),
        ("read_level", pa.int8()),
        ("dropped", pa.string()),
    ]
)
INSTANCE = pa.schema(
    [
        ("id", pa.string()),
        ("conversation_id", pa.string()),
        ("user_id", pa.string()),
        ("turn", pa.int32()),
        ("language", pa.string()),
        ("model", pa.string()),
        ("history", pa.list_(MESSAGE)),
        ("messages", pa.list_(MESSAGE)),
        ("user_feedback", MESSAGE),
        ("level", pa.int8()),
        ("label", pa.int8()),
        ("label_source", pa.string()),
        ("label_confidence", pa.float32()),
    ]
)
UNPAIRED = pa.schema([("prompt", pa.list_(MESSAGE)), ("completion", pa.list_(MESSAGE)), ("label", pa.bool_())])
# An instance with what is needed to find duplicates and to put it on its side of the split.
CANDIDATE = pa.schema(
    [*INSTANCE, ("split", pa.string()), ("exact_key", pa.int64()), ("signature", pa.binary(4 * TEXTS * PERMUTATIONS))]
)


def write_rows(path: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> None:
    """Write rows to a small parquet file, complete or not at all."""
    with atomic_path(path) as temporary:
        table = pa.Table.from_pylist(list(rows), schema=schema)
        pq.write_table(table, temporary, compression="zstd", compression_level=1, row_group_size=256)


def read_rows(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A small parquet file."""
    with pq.ParquetFile(path) as file:
        return file.read(columns)


def instance_row(turn: Turn) -> dict[str, Any]:
    """The dataset's row of a kept turn; here the history is written out, once. The feedback is empty where there is none."""
    return {
        "id": turn.id,
        "conversation_id": turn.conversation.conversation_id,
        "user_id": turn.conversation.user_id,
        "turn": turn.number,
        "language": turn.language,
        "model": turn.conversation.model,
        "history": [message._asdict() for message in turn.history],
        "messages": [message._asdict() for message in turn.conversation.messages[turn.position : turn.answer + 1]],
        "user_feedback": {"role": "user", "content": turn.feedback},
        "level": turn.level,
        "label": LEVEL_TO_LABEL[turn.level],
        "label_source": turn.label_source,
        "label_confidence": turn.confidence,
    }


def unpaired_row(row: dict[str, Any]) -> dict[str, Any]:
    """An instance as TRL's unpaired preference: liked or not."""
    return {
        "prompt": [*row["history"], *row["messages"][:-1]],
        "completion": row["messages"][-1:],
        "label": row["level"] >= 4,
    }


def level_row(turn: Turn) -> dict[str, Any]:
    """What the labeler said about a turn, and what became of it; also a labels file for `--labels`."""
    return {
        "id": turn.id,
        "level": turn.raw_label.level,
        "confidence": turn.raw_label.confidence,
        "labeler": turn.labeler,
        "reason": turn.raw_label.reason,
        "refusal": turn.verdict,
        "label_source": turn.label_source,
        "read_level": turn.read_level,
        "dropped": turn.dropped,
    }
