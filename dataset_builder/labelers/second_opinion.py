"""What becomes of a follow-up that the cues and the classifier have both read."""

import numpy as np

from wildreward.dataset_builder.labelers.base import Request
from wildreward.dataset_builder.labelers.cues import NOT_OWN_WORDS, Verdict
from wildreward.dataset_builder.words import LATIN, OTHER_LETTERS, has_other_letters

# A side is taken from this probability on: where the cues do not say it, and where they say it too. Picked by what
# `python benchmarks/cues_labeler.py --thresholds` prints, for precision.
ALONE, AGREED = 0.83, 0.4
# How often both were right there, the classifier's own probabilities being too sure: of the sides that it took, and of
# the neutral that it made of a cue's side.
RIGHT, RIGHT_TO_OVERRULE = 0.75, 0.55
CLASSIFIER = "classifier"  # the classifier took a side by itself
OVERRULED = "overruled"  # the cues took a side, and the classifier does not believe it
OTHER_LANGUAGES = ("zh_", "other_")  # what the cues of other languages than English are called


def reads(request: Request, verdict: Verdict) -> bool:
    """Whether the classifier, which knows English only, is asked.

    It is not where the words belong to a part that is played, a letter or a transcript, where the language is known to be another, where a
    cue of another language has spoken, and where the letters are not all Latin but for a few. French without a cue is
    asked about.
    """
    if verdict == NOT_OWN_WORDS:
        return False
    if (request.language or "english").lower() not in ("english", "en") or verdict.reason.startswith(OTHER_LANGUAGES):
        return False
    return any(map(str.isalpha, request.feedback)) and not has_other_letters(request.feedback)


def rules() -> str:
    """What an answer depends on here."""
    return repr((ALONE, AGREED, RIGHT, RIGHT_TO_OVERRULE, OTHER_LANGUAGES, LATIN, OTHER_LETTERS))


def second_opinion(
    verdict: Verdict, probabilities: np.ndarray, alone: float = ALONE, agreed: float = AGREED
) -> Verdict:
    """The level of both together.

    Args:
        verdict: what the cues say.
        probabilities: of the levels 1 to 5, by the classifier.
        alone: the probability of a side from which it is taken although the cues do not say it.
        agreed: the one from which it is left standing where the cues say it.
    """
    said = (verdict.level > 3) - (verdict.level < 3)
    for side, levels in ((-1, (1, 2)), (1, (4, 5))):
        probability = sum(float(probabilities[level - 1]) for level in levels)
        if side != said and probability >= alone:
            return Verdict(max(levels, key=lambda level: probabilities[level - 1]), RIGHT, CLASSIFIER)
        if side == said and probability < agreed:
            verdict = Verdict(3, RIGHT_TO_OVERRULE, OVERRULED)
    return verdict
