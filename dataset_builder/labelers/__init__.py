"""Labelers: from a follow-up to a level. `make_labeler` is the way to get one by name."""

from typing import Any

from wildreward.common.errors import UserError
from wildreward.dataset_builder.labelers.base import Labeler

NAMES = ("classifier", "llm", "transformers", "file", "rating")


def make_labeler(name: str, *, labels: str | None = None, **options: Any) -> Labeler:
    """Make a labeler. Modules are imported here, so that a labeler's dependencies are needed only when it is used.

    Args:
        name: one of `NAMES`.
        labels: the labels file, for `file`.
        options: what the labeler's class takes.
    """
    if name == "classifier":
        from wildreward.dataset_builder.labelers.classifier import ClassifierLabeler

        return ClassifierLabeler(**options)
    if name == "file":
        from wildreward.dataset_builder.labelers.file import FileLabeler

        if not labels:
            raise UserError("--labeler file needs --labels FILE: JSONL or parquet with the columns id and level")
        return FileLabeler(labels)
    if name == "rating":
        from wildreward.dataset_builder.labelers.rating import RatingLabeler

        return RatingLabeler(**options)
    if name in ("llm", "transformers") and not options.get("model"):
        raise UserError(f"--labeler {name} needs --model NAME")
    if name == "llm":
        from wildreward.dataset_builder.labelers.llm import LlmLabeler

        return LlmLabeler(**options)
    if name == "transformers" and options.get("base_url"):
        from wildreward.dataset_builder.labelers.decision import HttpDecisionLabeler

        return HttpDecisionLabeler(**options)
    if name == "transformers":
        from wildreward.dataset_builder.labelers.decision import TransformersLabeler

        return TransformersLabeler(**options)
    raise UserError(f"unknown labeler {name!r}; expected one of {', '.join(NAMES)}")
