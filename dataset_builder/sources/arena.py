"""Two answers and a vote, as LMSYS and the arenas publish them.

{"model_a": …, "model_b": …, "winner": "model_a" | "model_b" | "tie" | "tie (bothbad)", "judge": …,
    "conversation_a": [messages], "conversation_b": [messages]}
{"prompt": '["…"]', "response_a": '["…"]', "response_b": '["…"]', "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from wildreward.dataset_builder.sources.layouts import Layout, each, parsed
from wildreward.dataset_builder.sources.tree import Message

_IDS = ("question_id", "id", "conversation_id", "battle_id", "evaluation_session_id")


def chats(record: dict) -> Iterator[dict]:
    """Both conversations. The last answer of the one that won is rated "up", the other's "down"; both "down" where both were
    bad; a tie says nothing.
    """
    name = next((record[key] for key in _IDS if record.get(key) is not None), None)
    for side in "ab":
        messages = parsed(record.get(f"conversation_{side}"))
        if messages is None:
            messages = _exchange(parsed(record.get("prompt")), parsed(record.get(f"response_{side}")))
        if rating := _rating(record, side):
            messages = _rated(messages, rating)
        yield {
            "id": None if name is None else f"{name}_{side}",
            "user": record.get("judge"),
            "language": record.get("language"),
            "model": record.get(f"model_{side}"),
            "messages": messages,
        }


def _rating(record: dict, side: str) -> str | None:
    winner = str(record.get("winner", "")).lower()
    other = "b" if side == "a" else "a"
    if winner in (side, f"model_{side}") or record.get(f"winner_model_{side}") == 1:
        return "up"
    if winner in (other, f"model_{other}") or record.get(f"winner_model_{other}") == 1 or "bad" in winner:
        return "down"
    return None


def _rated(messages: Any, rating: str) -> Any:
    """At the last message, which is the answer that was voted on."""
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return messages
    return [*messages[:-1], {**messages[-1], "rating": rating}]


def _exchange(prompts: Any, responses: Any) -> list[Message]:
    pairs = zip(_list(prompts), _list(responses), strict=False)
    return [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def _list(value: Any) -> list:
    return value if isinstance(value, list) else [value]


ARENA = Layout(
    name="arena",
    required=("conversation_a|response_a", "conversation_b|response_b"),
    convert=partial(each, chats),
    more=(
        *_IDS,
        "prompt",
        "judge",
        "language",
        "model_a",
        "model_b",
        "winner",
        "winner_model_a",
        "winner_model_b",
    ),
)
