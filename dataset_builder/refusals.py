"""Refusal validation: was a refusal that the user did not like the right answer?

A negative level under a *justified* refusal would teach the reward model that refusing harm is bad. So responses that
look like refusals and got a negative level go to a judge; its verdict decides.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from wildreward.common.refusals import looks_like_refusal
from wildreward.dataset_builder.records import Turn

JUSTIFIED = "justified_refusal"
# A refusal without a verdict, and why there is none when the labeler does not judge.
NOT_JUDGED = "not_judged"
NO_JUDGE = "no_judge"


def needs_judge(turn: Turn, knows_refusals: bool = False) -> bool:
    """Only refusals with negative feedback are judged.

    Args:
        turn: labelled.
        knows_refusals: the judge says itself which responses are refusals, whatever their wording.
    """
    if turn.dropped is not None or turn.level not in (1, 2):
        return False
    return knows_refusals or looks_like_refusal(turn.response)


def count_labels(turns: Iterable[Turn], counts: Counter) -> Iterator[Turn]:
    """Add `turns`, `without_follow_up`, `levels.<n>`, `unlabelled.<reason>`, for refusals `refusals.<verdict>` and
    `unjudged.<reason>`, and for rated turns `rated.<n>` and `agreement.<rating>.<what the labeler read>`, each of the two
    "negative", "neutral" or "positive"."""
    for turn in turns:
        counts["turns"] += 1
        counts["without_follow_up"] += not turn.has_follow_up
        if turn.dropped is None and turn.level is None:
            counts[f"unlabelled.{turn.reason or 'unknown'}"] += 1
        elif turn.dropped is None:
            counts[f"levels.{turn.level}"] += 1
            if turn.rating is not None:
                counts[f"rated.{turn.level}"] += 1
                if turn.read_level is not None:
                    counts[f"agreement.{attitude(turn.level)}.{attitude(turn.read_level)}"] += 1
            if turn.verdict or needs_judge(turn):
                counts[f"refusals.{turn.verdict or NOT_JUDGED}"] += 1
                counts[f"unjudged.{turn.verdict_reason or NO_JUDGE}"] += not turn.verdict
        yield turn


def attitude(level: int) -> str:
    """A level in one of three words."""
    return "neutral" if level == 3 else "positive" if level > 3 else "negative"


def apply_verdicts(turns: Iterable[Turn], counts: Counter) -> Iterator[Turn]:
    """Put the judge's verdicts into effect: a justified refusal gets the top level; everything else stays."""
    for turn in turns:
        if turn.verdict == JUSTIFIED:
            turn.level, turn.label_source = 5, "refusal"
            turn.confidence = None  # what there was speaks of the user's complaint, not of the refusal
        yield turn
