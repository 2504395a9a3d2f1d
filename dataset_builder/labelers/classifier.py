"""The embedded labeler: a small classifier reads the follow-up, with a little of the query and the answer.

It knows English; of other languages only the phrases of `phrases.json`. Other follow-ups get no level.
"""

import logging
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from itertools import islice

import numpy as np

from wildreward.common.llm.answers import Answer
from wildreward.common.names import public_name
from wildreward.common.settings import check_range
from wildreward.dataset_builder.labelers.base import Labeler, Request
from wildreward.dataset_builder.labelers.feedback_model import (
    BASE_MODEL,
    FeedbackModel,
    load,
    load_packaged,
    read_settings,
    version,
)
from wildreward.dataset_builder.labelers.phrases import level_by_phrase
from wildreward.dataset_builder.text import has_other_letters, language_name

logger = logging.getLogger(__name__)

SIDES = {"negative": (1, 2), "positive": (4, 5)}
BATCH = 512  # requests that are read at once

# Reasons of answers
CLASSIFIED = "classifier"
SURELY_NEUTRAL = "surely_neutral"  # the gate says so
PHRASE = "phrase"
LANGUAGE_NOT_READ = "language_not_read"


class ClassifierLabeler(Labeler):
    """Levels by a small classifier; free, on this machine, in the order of the requests. It does not judge refusals.

    A follow-up is negative or positive where the probability of that side reaches a threshold, else neutral; the
    confidence is the probability of the side.

    Args:
        model: folder or Hub id of a model that `train-labeler` made; None: the one in the package.
        min_confidence: probability from which a side is taken; None: the model's own thresholds, one for each side.
        base_model: folder or Hub id of all-MiniLM-L6-v2, which the model in the package needs.

    Raises:
        UserError: the model cannot be had, or does not classify into the five levels.
    """

    name = "classifier"
    uses_all_cores = True

    def __init__(
        self, model: str | None = None, min_confidence: float | None = None, base_model: str = BASE_MODEL
    ) -> None:
        check_range(("min-confidence", min_confidence, 0, 1))
        settings = read_settings(model, base_model)
        self.thresholds = settings.get("thresholds") or dict.fromkeys(SIDES, 0.5)
        if min_confidence is not None:
            self.thresholds = dict.fromkeys(SIDES, min_confidence)
        self.languages = {language.lower() for language in settings.get("languages", ["English"])}
        self.version = version(model)
        self.settings = {"min_confidence": min_confidence, "model": public_name(model) if model else "packaged"}
        self.quality = {name: settings[name] for name in ("trade_off", "turns") if name in settings}
        self._name, self._base_model, self._model, self._not_read = model, base_model, None, Counter()

    def label(self, request: Request) -> Answer:
        return next(self.label_many([request]))

    def label_many(self, requests: Iterable[Request]) -> Generator[Answer, None, None]:
        requests = iter(requests)
        while batch := list(islice(requests, BATCH)):
            answers = [self._without_model(request) for request in batch]
            asked = [row for row, answer in enumerate(answers) if answer is None]
            for row, *found in zip(asked, *self._probabilities([batch[row] for row in asked]), strict=True):
                answers[row] = self._answer(batch[row], *found)
            yield from answers

    def close(self) -> None:
        if self._model is not None:
            self._model.close()
            self._model = None
        if self._not_read:
            listed = ", ".join(f"{language} {count:,}" for language, count in self._not_read.most_common(5))
            logger.warning(
                "%d follow-ups are in languages that the classifier does not read (%s): they got no level; "
                "--labeler llm reads them",
                self._not_read.total(),
                listed,
            )
            self._not_read.clear()

    def _probabilities(self, requests: list[Request]) -> tuple[np.ndarray, np.ndarray]:
        if self._model is None:  # loaded for the first request: a part may hold none
            self._model: FeedbackModel = load(self._name) if self._name else load_packaged(self._base_model)
        return self._model.probabilities(requests)

    def _answer(self, request: Request, probabilities: np.ndarray, classified: bool) -> Answer:
        if not classified:
            return Answer(request.key, 3, round(float(probabilities[2]), 4), SURELY_NEUTRAL, attempts=0)
        return Answer(request.key, *decide(probabilities, self.thresholds), CLASSIFIED, attempts=0)

    def _without_model(self, request: Request) -> Answer | None:
        """The answer for a follow-up in a language that the classifier does not read; None where it does."""
        language = language_name(request.language)
        known = not language or language.lower() in self.languages
        if known and not has_other_letters(request.feedback):
            return None
        level = level_by_phrase(request.feedback)
        if level is None:
            self._not_read[request.language or "unknown"] += 1
            return Answer(request.key, None, reason=LANGUAGE_NOT_READ, attempts=0)
        return Answer(request.key, level, reason=PHRASE, attempts=0)


def decide(probabilities: np.ndarray, thresholds: Mapping[str, float]) -> tuple[int, float]:
    """The level that the (5,) probabilities give, and how likely its side is.

    >>> decide(np.array([0.1, 0.6, 0.2, 0.1, 0.0]), {"negative": 0.65, "positive": 0.5})
    (2, 0.7)
    """
    chances = {side: sum(float(probabilities[level - 1]) for level in levels) for side, levels in SIDES.items()}
    for side in sorted(SIDES, key=lambda side: -chances[side]):
        if chances[side] >= thresholds[side]:
            return max(SIDES[side], key=lambda level: probabilities[level - 1]), round(chances[side], 4)
    return 3, round(float(probabilities[2]), 4)
