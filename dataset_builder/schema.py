"""The Arrow schemas of what the builder writes, and the rows that go into them."""

from typing import Any

import pyarrow as pa

from wildreward.dataset_builder.dedup import PERMUTATIONS, TEXTS
from wildreward.dataset_builder.labelers.base import ChatMessage
from wildreward.dataset_builder.records import LEVEL_TO_LABEL, Turn

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
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
LEVELS = pa.schema(
    [
        ("id", pa.string()),
        ("level", pa.int8()),
        ("confidence", pa.float32()),
        ("labeler", pa.string()),
        ("reason", pa.string()),
        ("refusal", pa.string()),
        ("label_source", pa.string()),
        ("dropped", pa.string()),
    ]
)
# What a labeler said about each turn of a part, in the order of the turns.
ANSWERS = pa.schema(
    [
        ("level", pa.int8()),
        ("confidence", pa.float32()),
        ("reason", pa.string()),
        ("verdict", pa.string()),
        ("attempts", pa.int32()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
    ]
)
# Pairs of turns that implicit feedback could connect, with the two texts, and then with how similar they are.
_PAIR = [("conversation_id", pa.string()), ("turn", pa.int32()), ("later", pa.int32())]
PAIRS = pa.schema([*_PAIR, ("first", pa.string()), ("second", pa.string())])
SIMILARITIES = pa.schema([*_PAIR, ("cosine", pa.float32())])
# An instance with what is needed to find duplicates and to put it on its side of the split.
CANDIDATE = pa.schema(
    [*INSTANCE, ("split", pa.string()), ("exact_key", pa.int64()), ("signature", pa.binary(4 * TEXTS * PERMUTATIONS))]
)


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def instance_row(turn: Turn) -> dict[str, Any]:
    """The dataset's row of a kept turn; here the history is written out, once."""
    return {
        "id": turn.id,
        "conversation_id": turn.conversation.conversation_id,
        "user_id": turn.conversation.user_id,
        "turn": turn.number,
        "language": turn.language,
        "model": turn.conversation.model,
        "history": [chat(item) for item in turn.history],
        "messages": [message("user", turn.query), message("assistant", turn.response)],
        "user_feedback": message("user", turn.feedback),
        "level": turn.level,
        "label": LEVEL_TO_LABEL[turn.level],
        "label_source": turn.label_source,
        "label_confidence": turn.confidence,
    }


def unpaired_row(row: dict[str, Any]) -> dict[str, Any]:
    """An instance as TRL's unpaired preference: liked or not."""
    return {
        "prompt": [*row["history"], row["messages"][0]],
        "completion": [row["messages"][1]],
        "label": row["level"] >= 4,
    }


def level_row(turn: Turn) -> dict[str, Any]:
    """What the labeler said about a turn, and what became of it; also a labels file for `--labels`."""
    level, confidence, reason = turn.said
    return {
        "id": turn.id,
        "level": level,
        "confidence": confidence,
        "labeler": turn.labeler,
        "reason": reason,
        "refusal": turn.verdict,
        "label_source": turn.label_source,
        "dropped": turn.dropped,
    }


def chat(item: ChatMessage) -> dict[str, str]:
    return message(item.role, item.content)
