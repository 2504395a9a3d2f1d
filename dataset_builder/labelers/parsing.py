"""Read a model's reply strictly: a level from 1 to 5 or one of the three verdicts, else why there is none.

There is no fallback value. A reply that says two things, something out of range or nothing is `Unusable`.
"""

import math
import re
from typing import Any

from wildreward.common.llm.answers import UNPARSABLE, Unusable
from wildreward.common.llm.replies import answer_in, stated

OUT_OF_RANGE = "level_out_of_range"

_BARE_LEVEL = re.compile(r'\s*(?:\**"?level"?\**\s*[:=]\s*)?\**"?(\d+)"?\**\s*\.?\s*', re.IGNORECASE)


def read_level(text: str) -> int:
    """The one level `text` states: a JSON object with `level`, alone or within prose, or a bare number.

    >>> read_level('{"level": 4}')
    4
    """
    bare = _BARE_LEVEL.fullmatch(answer_in(text))
    levels = [int(bare[1])] if bare else [_integer(value) for value in stated(text, "level")]
    if not levels or None in levels or len(set(levels)) > 1:
        raise Unusable(UNPARSABLE)
    if levels[0] not in (1, 2, 3, 4, 5):
        raise Unusable(OUT_OF_RANGE)
    return levels[0]


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
