"""What `--select` keeps of a scored row: its best answer, its best against its worst, or what scores enough."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wildreward.common.errors import UserError

ALL, BEST, PAIRS, ABOVE = "all", "best", "pairs", "above"
UNSCORED = "without a score"
# Why a row gives no pair.
TOO_FEW = "with fewer than two different answers that have a score"
EQUAL = "with equal scores"
SMALL_MARGIN = "with a smaller margin"
TOO_LOW = "with lower scores"


@dataclass(frozen=True)
class Rule:
    """What is kept: `kind`, and the number that belongs to it."""

    kind: str = ALL
    least: float = -math.inf
    """Lowest score, of `above`."""
    margin: float = 0.0
    """Smallest difference of two scores, of `pairs`."""

    def __str__(self) -> str:
        return {
            ALL: "every row, with `score`, `level_probs` and, where it has no score, `error`",
            BEST: "the answer with the highest score of each prompt, the first of equal ones",
            PAIRS: "the answer with the highest score of each prompt as `chosen`, the one with the lowest as `rejected`, where "
            f"texts and scores differ, the scores by at least {self.margin:g}",
            ABOVE: f"answers with a score of at least {self.least:g}",
        }[self.kind]


def read_rule(select: str | None, margin: float = 0.0) -> Rule:
    """The rule that a text names: `best`, `pairs`, `above=S`; None keeps everything.

    Raises:
        UserError: it names none, or a margin is given that nothing asks for.
    """
    kind, _, number = (select or ALL).partition("=")
    if margin and kind != PAIRS:
        raise UserError(f"--margin is {margin:g}; expected it with --select pairs only")
    if select in (None, BEST, PAIRS):
        return Rule(kind, margin=margin)
    try:
        least = float(number)
    except ValueError:
        least = math.nan
    if kind != ABOVE or not math.isfinite(least):
        raise UserError(f"--select is {select!r}; expected best, pairs or above=S, such as above=2.5")
    return Rule(ABOVE, least=least)


def select(rule: Rule, row: Mapping[str, Any], result: Mapping[str, Any]) -> list[dict[str, Any]] | str:
    """The rows that a scored row gives, or why it gives none.

    Args:
        rule: what is kept.
        row: as it was read; with one answer, or with `prompt` and `completions`.
        result: its `score`, a number or one for each completion (None where there is none), `level_probs`, `error`; any may
            be missing.

    >>> row = {"prompt": "2 + 2?", "completions": ["4", "5", "4"]}
    >>> select(Rule(PAIRS), row, {"score": [2.0, 1.0, 0.5]})
    [{'prompt': '2 + 2?', 'chosen': '4', 'rejected': '5', 'score_chosen': 2.0, 'score_rejected': 1.0}]
    """
    score = result.get("score")
    whole = [{**row, **{name: result.get(name) for name in ("score", "level_probs", "error")}}]
    if rule.kind == ALL:
        return whole
    if score is None:
        return UNSCORED
    if not isinstance(score, list):
        return whole if score >= rule.least else TOO_LOW
    answers = [(one, text) for one, text in zip(score, row["completions"], strict=True) if one is not None]
    prompt = {name: row[name] for name in ("id", "prompt") if name in row}
    if rule.kind == PAIRS:
        return _pair(prompt, answers, rule.margin)
    if rule.kind == BEST:
        answers = [max(answers, key=lambda answer: answer[0])]
    kept = [{**prompt, "completion": answer, "score": one} for one, answer in answers if one >= rule.least]
    return kept or TOO_LOW


def _pair(prompt: dict[str, Any], answers: list[tuple[float, Any]], margin: float) -> list[dict[str, Any]] | str:
    """As `wildreward.training.pairs.select_pairs` pairs completions of a policy."""
    best, chosen = max(answers, key=lambda answer: answer[0])
    others = [answer for answer in answers if _text(answer[1]) != _text(chosen)]
    if not others:
        return TOO_FEW
    worst, rejected = min(others, key=lambda answer: answer[0])
    if best == worst:
        return EQUAL
    if best - worst < margin:
        return SMALL_MARGIN
    scores = {"score_chosen": best, "score_rejected": worst}
    return [{**prompt, "chosen": chosen, "rejected": rejected, **scores}]


def _text(answer: Any) -> Any:
    return answer if isinstance(answer, str) else answer[-1]["content"]
