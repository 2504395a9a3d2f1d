"""Refusal validation: was a refusal that the user did not like the right answer?

A negative level under a *justified* refusal would teach the reward model that refusing harm is bad. So responses that
look like refusals and got a negative level go to a judge; its verdict decides.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from wildreward.dataset_builder.records import Turn
from wildreward.dataset_builder.text import count_words

JUSTIFIED = "justified_refusal"
# A refusal without a verdict, and why there is none when the labeler does not judge.
NOT_JUDGED = "not_judged"
NO_JUDGE = "no_judge"
MAX_REFUSAL_WORDS = 150
_HEAD_CHARS = 400

# Blanks are written as \s: the pattern that this goes into leaves plain ones out.
_CANNOT = (
    r"(?:can(?:no|['’])?t|can\s+not|could(?:n['’]t|\s+not)|won['’]t|will\s+not|(?:un|not\s+)able\s+to|not\s+comfortable|"
    r"not\s+going\s+to)"
)
_ENGLISH = re.compile(
    rf"""\b(?:
        i(?:['’]m|\ am)?\s+(?:really\s+|so\s+|very\s+)?sorry\b[^.!?]{{0,60}}\b{_CANNOT}
      | i(?:['’]m|\ am)?\s+(?:simply\s+|just\s+|really\s+)?{_CANNOT}\s+(?:(?:and|or)\s+(?:will\s+not|won['’]t)\s+)?
        (?:be\s+able\s+to\s+)?(?:\w+\s+)?(?:help|assist|provide|give\s+you|share|explain\s+how|tell\s+you\s+how|create|generate|write|comply|fulfil+|engage|discuss|support|do\s+that|continue|answer|produce|offer|participate)
      | i(?:['’]m|\ am)\s+(?:unable|not\s+able|not\s+comfortable|not\s+allowed|not\s+programmed|not\s+permitted)\b
      | i\s+must\s+(?:decline|refuse)
      | (?:goes|is|would\s+be)\s+against\s+(?:my|openai['’]?s?|our)\s+(?:\w+\s+)?(?:guidelines|polic(?:y|ies)|programming|principles)
      | (?:violates?|violating)\s+(?:\w+\s+){{0,3}}(?:guidelines|polic(?:y|ies))
      | (?:this|the|an?)\s+(?:(?:ai\s+)?assistant|ai\s+model)\s+(?:is\s+)?{_CANNOT}
      | as\s+an\s+(?:ai|artificial)\b[^.!?]{{0,80}}\b(?:{_CANNOT}|not\s+capable|do\s+not|don['’]t)
    )
    | (?:\bnot|n['’]t)\s+(?:appropriate|ethical|something\s+i\s+can)
    """,
    re.I | re.X,
)
_CHINESE = re.compile(
    "(?:抱歉|对不起|很遗憾|不好意思)[^。!?]{0,30}(?:不能|无法|不可以|没有办法|不便)"
    "|我(?:不能|无法|不可以|不会)(?:为[你您]|给[你您]|向[你您])?(?:提供|协助|帮|生成|创作|回答|满足|参与|讨论)"
    "|违反(?:了)?[^。]{0,12}(?:准则|政策|规定|原则|法律)"
)


def looks_like_refusal(response: str) -> bool:
    """A short response with refusal wording near its beginning."""
    if len(response) > 8 * MAX_REFUSAL_WORDS:
        return False
    head = response[:_HEAD_CHARS]
    return bool(_ENGLISH.search(head) or _CHINESE.search(head)) and count_words(response) <= MAX_REFUSAL_WORDS


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
