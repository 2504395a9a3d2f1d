"""Read a model's reply strictly: a level from 1 to 5 or one of the three verdicts, else why there is none.

There is no fallback value. A reply that says two things, something out of range or nothing is `Unusable`.
"""

import json
import math
import re
from contextlib import suppress
from typing import Any, NamedTuple

from wildreward.common.parts import Unreadable, pieces_of, text_of
from wildreward.common.reasoning import split_reasoning
from wildreward.dataset_builder.labelers.base import REFUSAL_VERDICTS, UNLABELLED_UNPARSABLE, RefusalVerdict, Task

EMPTY = "empty_answer"
TRUNCATED = "truncated_answer"
OUT_OF_RANGE = "level_out_of_range"
DECLINED = "labeler_declined"

_BARE_LEVEL = re.compile(r'\s*(?:\**"?level"?\**\s*[:=]\s*)?\**"?(\d+)"?\**\s*\.?\s*', re.IGNORECASE)
_OBJECT = re.compile(r"\{[^{}]*\}")


class Unusable(Exception):
    """A reply without a usable level or verdict; `reason` is the code the row gets when asking again does not help."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Reading(NamedTuple):
    """What a reply says. Exactly one of `level` and `verdict` is set."""

    level: int | None = None
    verdict: RefusalVerdict | None = None
    confidence: float | None = None


def read_chat_completion(payload: Any, task: Task) -> Reading:
    """Read the JSON of a chat completion.

    Raises:
        Unusable: the reply is empty, cut off, not in the asked form, or not one of the levels or verdicts.
    """
    try:
        choice = payload["choices"][0]
        message, finish_reason = dict(choice["message"]), choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise Unusable(UNLABELLED_UNPARSABLE) from None
    if finish_reason == "length":
        raise Unusable(TRUNCATED)
    if finish_reason == "content_filter" or message.get("refusal"):
        raise Unusable(DECLINED)
    text = _text(message)
    if not text.strip():
        raise Unusable(EMPTY)
    if task == "refusal":
        return Reading(verdict=read_verdict(text))
    level = read_level(text)
    return Reading(level=level, confidence=level_probability(choice.get("logprobs"), level))


def is_prose(payload: Any) -> bool:
    """Whether a chat completion holds a reply that, apart from its thinking, is anything but a JSON object."""
    try:
        return not isinstance(json.loads(_answer(_text(payload["choices"][0]["message"]))), dict)
    except ValueError:
        return True
    except (KeyError, IndexError, TypeError, AttributeError, Unusable):
        return False


def _text(message: dict[str, Any]) -> str:
    """What a message says. Servers that take all of a reply for reasoning leave the content empty: an object is no reasoning."""
    try:
        pieces = pieces_of(message, "content")
    except Unreadable:
        raise Unusable(UNLABELLED_UNPARSABLE) from None
    if (said := text_of(pieces)).strip():
        return said
    thoughts = (_answer(piece.text).strip() for piece in pieces if piece.kind == "reasoning")
    return next((thought for thought in thoughts if _OBJECT.fullmatch(thought)), "")


def _answer(text: str) -> str:
    """A reply without its reasoning. A reply is short, and nobody asked about tags: even what looks like a mention ends it."""
    return split_reasoning(text).answer.rpartition("</think>")[2]


def read_level(text: str) -> int:
    """The one level `text` states: a JSON object with `level`, alone or within prose, or a bare number.

    >>> read_level('{"level": 4}')
    4
    """
    bare = _BARE_LEVEL.fullmatch(_answer(text))
    stated = [int(bare[1])] if bare else [_integer(value) for value in _stated(text, "level")]
    if not stated or None in stated or len(set(stated)) > 1:
        raise Unusable(UNLABELLED_UNPARSABLE)
    if stated[0] not in (1, 2, 3, 4, 5):
        raise Unusable(OUT_OF_RANGE)
    return stated[0]


def read_verdict(text: str) -> RefusalVerdict:
    """The one verdict `text` states: a JSON object with `verdict`, alone or within prose, or the bare word."""
    bare = _answer(text).strip().strip('."').lower()
    stated = {bare} if bare in REFUSAL_VERDICTS else set(map(str, _stated(text, "verdict")))
    found = [verdict for verdict in REFUSAL_VERDICTS if verdict in stated]
    if len(stated) != 1 or not found:
        raise Unusable(UNLABELLED_UNPARSABLE)
    return found[0]


def _stated(text: str, field: str) -> list[Any]:
    """Every value given to `field` in the JSON objects of a reply; a field given twice counts twice."""
    values: list[Any] = []

    def collect(pairs: list[tuple[str, Any]]) -> None:
        values.extend(value for name, value in pairs if name == field)

    for candidate in _OBJECT.findall(_answer(text)):
        with suppress(ValueError):
            json.loads(candidate, object_pairs_hook=collect)
    return values


def _integer(value: Any) -> int | None:
    """`value` as a whole number: 4, 4.0 and "4" are four; true, 3.5 and "four" are not numbers of levels."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if math.isfinite(number) and number == int(number) else None


def level_probability(logprobs: Any, level: int) -> float | None:
    """How likely the model held `level`, among the five, where its digit was written; None without log-probabilities.

    Args:
        logprobs: `choices[0].logprobs` of a chat completion: `{"content": [{token, logprob, top_logprobs}…]}`.
        level: the level read from the reply.
    """
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(tokens, list):
        return None
    for token in reversed(tokens):  # the level is the last thing written
        if not isinstance(token, dict) or _digit(token) != level:
            continue
        mass: dict[int, float] = {}
        for other in token.get("top_logprobs") or [token]:
            if (digit := _digit(other)) in (1, 2, 3, 4, 5):
                mass[digit] = mass.get(digit, 0.0) + _probability(other)
        if level not in mass:
            mass[level] = _probability(token)
        total = sum(mass.values())
        # Log-probabilities of one token alone say nothing about the others: then the token's own probability it is.
        return min(1.0, mass[level] / total if len(mass) > 1 else mass[level]) if total > 0 else None
    return None


def _digit(token: dict[str, Any]) -> int | None:
    text = str(token.get("token", "")).strip().strip('":}')
    return int(text) if len(text) == 1 and text in "12345" else None


def _probability(token: dict[str, Any]) -> float:
    value = token.get("logprob")
    return math.exp(min(0.0, value)) if isinstance(value, int | float) and not math.isnan(value) else 0.0
