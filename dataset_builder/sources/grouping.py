"""Records of one conversation that lie apart, put together: by their key on disk, then call after call of a model."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from wildreward.dataset_builder.sources.tree import Message


def grouped(records: Iterable[tuple[Any, Any, dict]]) -> Iterator[tuple[str, list[dict]]]:
    """Records by key, each key's in the order of their places (numbers, or texts such as times), else as they came.

    They wait in a temporary file, about as large as the source.
    """
    with closing(sqlite3.connect("")) as database:
        database.execute("CREATE TABLE records (key TEXT, place, record TEXT)")
        rows = ((_text(key), _place(place), json.dumps(record, default=str)) for key, place, record in records)
        database.executemany("INSERT INTO records VALUES (?, ?, ?)", rows)
        found = database.execute("SELECT key, record FROM records ORDER BY key, place, rowid")
        for key, group in groupby(found, itemgetter(0)):
            yield key, [json.loads(record) for _, record in group]


def _text(value: Any) -> str:
    return str(value).encode(errors="replace").decode()


def _place(value: Any) -> int | float | str | None:
    if value is None or isinstance(value, bool | dict | list):
        return None
    for number in (int, float):  # nanoseconds fit no float
        try:
            if isinstance(value, str | number) and abs(number(value)) < 2**62:
                return number(value)
        except ValueError:
            continue
    return _text(value)


@dataclass
class Chat:
    """What is known of one conversation from the calls up to now.

    Attributes:
        messages: all of it.
        call: the last call.
        bare: no call brought what had been said before.
        ratings: after so many questions of the user's → the answer's rating.
    """

    messages: list[Message]
    call: dict[str, Any]
    bare: bool
    ratings: dict[int, Any] = field(default_factory=dict)


def chats_of_calls(calls: Iterable[tuple[Any, Any, dict]]) -> Iterator[dict]:
    """Rows of whole conversations from single calls of a model.

    A call usually brings all that was said before, so the last one of a conversation has all of it: it takes the place of
    those whose questions it repeats. One that brings a question alone goes on where the call of the same name before it
    ended. Anything else, such as what an agent asks for itself, is a conversation of its own.

    Args:
        calls: key of the conversation, time, and the call: `input` and `output` (lists of messages), and as far as it is
            known `user`, `model`, `name`, `rating`.
    """
    for key, group in grouped(calls):
        found: list[Chat] = []
        for call in group:
            _add(found, call)
        users = [call["user"] for call in group if call.get("user")]
        for number, chat in enumerate(found):
            yield {
                "id": f"{key}_{number}" if number else key,
                "user": users[0] if users else None,
                "model": chat.call.get("model"),
                "messages": _with_ratings(chat),
            }


def _add(found: list[Chat], call: dict[str, Any]) -> None:
    asked, whole = _questions(call["input"]), [*call["input"], *call["output"]]
    repeated = [chat for chat in found if (known := _questions(chat.messages)) and known == asked[: len(known)]]
    history = any(message.get("role") not in ("user", "human", "system", "developer") for message in call["input"])
    before = [chat for chat in found if chat.bare and chat.call.get("name") == call.get("name")]
    if repeated:
        chat = max(repeated, key=lambda chat: len(chat.messages))
        chat.messages, chat.call, chat.bare = whole, call, chat.bare and not history
    elif before and not history:
        chat = before[-1]
        chat.messages += [m for m in whole if m.get("role") not in ("system", "developer")]
        chat.call = call
    else:
        chat = Chat(whole, call, not history)
        found.append(chat)
    if call.get("rating") is not None:
        chat.ratings[len(_questions(chat.messages))] = call["rating"]


def _questions(messages: list[Message]) -> list[str]:
    return [json.dumps(m.get("content")) for m in messages if m.get("role") in ("user", "human")]


def _with_ratings(chat: Chat) -> list[Message]:
    messages, asked = list(chat.messages), 0
    for place, message in enumerate(messages):
        asked += message.get("role") in ("user", "human")
        last = place + 1 == len(messages) or messages[place + 1].get("role") in ("user", "human")
        if last and asked in chat.ratings and message.get("role") not in ("user", "human"):
            messages[place] = {**message, "rating": chat.ratings[asked]}
    return messages


def messages_in(value: Any, role: str) -> list[Message]:
    """What was said, of a call's input (`role` "user") or output ("assistant") in any of the forms that are common."""
    if isinstance(value, str) and value.strip():
        return [{"role": role, "content": value}]
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        if all("role" in item for item in value):
            return value
        if all("message" in item for item in value):  # choices
            return messages_in(value[0]["message"], role)
        return [{"role": role, "content": value}] if all("type" in item for item in value) else []
    if not isinstance(value, dict):
        return []
    if "role" in value and ("content" in value or "parts" in value or "tool_calls" in value):
        return [value]
    for key in ("messages", "choices", "message", "content", "text", *_PLAIN[role]):
        if found := messages_in(value.get(key), role):
            return found
    return []


_PLAIN = {
    "user": ("prompt", "query", "question", "input", "user_input", "args"),
    "assistant": ("answer", "response", "output", "completion", "result"),
}
