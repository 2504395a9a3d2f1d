"""What becomes of a follow-up that the cues and the classifier have both read."""

import numpy as np

from wildreward.dataset_builder.labelers.base import Request
from wildreward.dataset_builder.labelers.cues import Verdict

# A side is taken from this probability on: where the cues do not say it, and where they say it too. Chosen on the
# follow-ups of `uniform` among the labelled ones: `python benchmarks/cues_labeler.py --thresholds`.
ALONE, AGREED = 0.95, 0.1
RIGHT = 0.72  # how often a side that the classifier took by itself was right there; its probability says nearly always
CLASSIFIER = "classifier"  # the classifier took a side by itself
OVERRULED = "overruled"  # the cues took a side, and the classifier does not believe it
OTHER_LANGUAGES = ("zh_", "other_")  # what the cues of other languages than English are called
LATIN = 0x24F  # the last letter of the Latin alphabets


def reads(request: Request, verdict: Verdict) -> bool:
    """Whether the classifier is asked: it knows English only."""
    if request.language not in (None, "English") or verdict.reason.startswith(OTHER_LANGUAGES):
        return False
    shown = request.feedback
    return not shown.isspace() and not any(ord(letter) > LATIN and letter.isalpha() for letter in shown)


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
            verdict = Verdict(3, float(probabilities[2]), OVERRULED)
    return verdict
