"""The embedded labeler: the level of a follow-up read from explicit cues in its text, with no model and no network.

Precision comes first: a follow-up without strong explicit evidence is neutral (level 3).
"""

import re
from dataclasses import dataclass

CUES_VERSION = "0"

NEGATIVE = re.compile(r"^(no[,.]|wrong|that'?s (wrong|not)|it does(n'?t| not) work|not working|you forgot)", re.I)
THANKS = re.compile(r"^(thanks|thank you|谢谢)", re.I)
PRAISE = re.compile(r"^(great|perfect|awesome|excellent|very good|nice)\b", re.I)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Level 1–5 of a follow-up, how sure the cue is (share of such cues that were right), and the cue's code."""

    level: int
    confidence: float
    reason: str


def classify(feedback: str, *, query: str = "", response: str = "", language: str | None = None) -> Verdict:
    """Level of `feedback`, the user's message after `response` to `query`. Pure, bounded in time."""
    head = feedback[:400].lstrip()
    if NEGATIVE.match(head):
        return Verdict(2, 0.8, "correction")
    if THANKS.match(head):
        return Verdict(5 if len(head) < 60 else 4, 0.9, "thanks")
    if PRAISE.match(head):
        return Verdict(4, 0.9, "praise")
    return Verdict(3, 0.85, "neutral")
