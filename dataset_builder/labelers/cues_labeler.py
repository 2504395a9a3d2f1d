"""The cues of `cues.py` behind the labeler interface."""

from wildreward.dataset_builder.labelers.base import Answer, Labeler, Request
from wildreward.dataset_builder.labelers.cues import CUES_VERSION, classify


class CuesLabeler(Labeler):
    """Reads explicit cues in the follow-up. Free, instant, needs nothing; does not judge refusals."""

    name = "cues"
    version = CUES_VERSION

    def label(self, request: Request) -> Answer:
        verdict = classify(request.feedback, query=request.query, response=request.response, language=request.language)
        return Answer(request.key, verdict.level, verdict.confidence, verdict.reason, attempts=0)
