"""The cues of `cues.py`, and the classifier that backs them up, behind the labeler interface."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from wildreward.dataset_builder.labelers.base import Answer, Labeler, Request
from wildreward.dataset_builder.labelers.cues import CUES_VERSION, classify
from wildreward.dataset_builder.labelers.feedback_classifier import FeedbackClassifier, encoder_folder, version
from wildreward.dataset_builder.labelers.second_opinion import reads, rules, second_opinion

BATCH = 512  # requests that the classifier gets at once


class CuesLabeler(Labeler):
    """Reads explicit cues in the follow-up, and lets a small classifier decide where they are silent or doubtful.

    Free; does not judge refusals. Answers come in the order of the requests. Of the classifier, which knows English
    only, see `second_opinion.reads`.

    Args:
        classifier: use the classifier, which needs all-MiniLM-L6-v2 from the Hub or its package. Without it nothing is
            needed, an answer takes a tenth of a millisecond, and nearly half of the complaints are missed.

    Raises:
        UserError: the encoder cannot be had.
    """

    name = "cues"

    def __init__(self, classifier: bool = True) -> None:
        self.uses_classifier = self.uses_all_cores = classifier
        self.version = CUES_VERSION
        self._classifier: FeedbackClassifier | None = None
        if classifier:
            encoder_folder()
            self.version += f"+{version(rules())}"

    def label(self, request: Request) -> Answer:
        return next(self.label_many([request]))

    def label_many(self, requests: Iterable[Request]) -> Iterator[Answer]:
        requests = iter(requests)
        while batch := list(islice(requests, BATCH)):
            verdicts = [
                classify(request.feedback, query=request.query, response=request.response, language=request.language)
                for request in batch
            ]
            if self.uses_classifier:
                read = [place for place, pair in enumerate(zip(batch, verdicts, strict=True)) if reads(*pair)]
                for place, found in zip(read, self.probabilities([batch[place] for place in read]), strict=True):
                    verdicts[place] = second_opinion(verdicts[place], found)
            for request, verdict in zip(batch, verdicts, strict=True):
                yield Answer(request.key, verdict.level, verdict.confidence, verdict.reason, attempts=0)

    def probabilities(self, requests: list[Request]) -> np.ndarray:
        """What the classifier says (N, 5); it is loaded for the first."""
        if self._classifier is None:
            self._classifier = FeedbackClassifier()
        return self._classifier.probabilities([(asked.query, asked.response, asked.feedback) for asked in requests])

    def close(self) -> None:
        if self._classifier is not None:
            self._classifier.close()
            self._classifier = None
