"""What a model's reply says: the text of a chat completion, and the values stated in the JSON objects of it."""

import json
import re
from contextlib import suppress
from typing import Any

from wildreward.common.llm.answers import UNPARSABLE, Unusable
from wildreward.common.parts import Unreadable, pieces_of, text_of
from wildreward.common.reasoning import split_reasoning

EMPTY = "empty_answer"
TRUNCATED = "truncated_answer"
DECLINED = "labeler_declined"

_OBJECT = re.compile(r"\{[^{}]*\}")


def reply_of(payload: Any) -> tuple[str, dict[str, Any]]:
    """The text of a chat completion, and all of its choice.

    Raises:
        Unusable: the reply is empty, cut off, declined, or not in the form of a chat completion.
    """
    try:
        choice = dict(payload["choices"][0])
        message, finish_reason = dict(choice["message"]), choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise Unusable(UNPARSABLE) from None
    if finish_reason == "length":
        raise Unusable(TRUNCATED)
    if finish_reason == "content_filter" or message.get("refusal"):
        raise Unusable(DECLINED)
    text = _text(message)
    if not text.strip():
        raise Unusable(EMPTY)
    return text, choice


def is_prose(payload: Any) -> bool:
    """Whether a chat completion holds a reply that, apart from its thinking, is anything but a JSON object."""
    try:
        return not isinstance(json.loads(answer_in(_text(payload["choices"][0]["message"]))), dict)
    except ValueError:
        return True
    except (KeyError, IndexError, TypeError, AttributeError, Unusable):
        return False


def _text(message: dict[str, Any]) -> str:
    """What a message says. Servers that take all of a reply for reasoning leave the content empty: an object is no reasoning."""
    try:
        pieces = pieces_of(message, "content")
    except Unreadable:
        raise Unusable(UNPARSABLE) from None
    if (said := text_of(pieces)).strip():
        return said
    thoughts = (answer_in(piece.text).strip() for piece in pieces if piece.kind == "reasoning")
    return next((thought for thought in thoughts if _OBJECT.fullmatch(thought)), "")


def answer_in(text: str) -> str:
    """A reply without its reasoning. A reply is short, and nobody asked about tags: even what looks like a mention ends it."""
    return split_reasoning(text).answer.rpartition("</think>")[2]


def one_of(words: tuple[str, ...], text: str, field: str) -> str:
    """The one of `words` that `text` states: a JSON object with `field`, alone or within prose, or the bare word."""
    bare = answer_in(text).strip().strip('."').lower()
    said = {bare} if bare in words else set(map(str, stated(text, field)))
    found = [word for word in words if word in said]
    if len(said) != 1 or not found:
        raise Unusable(UNPARSABLE)
    return found[0]


def stated(text: str, field: str) -> list[Any]:
    """Every value given to `field` in the JSON objects of a reply; a field given twice counts twice."""
    values: list[Any] = []

    def collect(pairs: list[tuple[str, Any]]) -> None:
        values.extend(value for name, value in pairs if name == field)

    for candidate in _OBJECT.findall(answer_in(text)):
        with suppress(ValueError):
            json.loads(candidate, object_pairs_hook=collect)
    return values
