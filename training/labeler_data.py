"""Labelled turns for the classifier of follow-ups: joined with their chats, and split by user."""

import hashlib
import logging
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wildreward.dataset_builder import stages, steps
from wildreward.dataset_builder.labelers.base import Request
from wildreward.dataset_builder.labelers.classifier import SIDES
from wildreward.dataset_builder.pipeline import prepare
from wildreward.dataset_builder.turns import request_for
from wildreward.dataset_builder.workers import Workers
from wildreward.errors import UserError, described
from wildreward.evaluation.benchmarks.items import read_rows
from wildreward.files import make_folder

logger = logging.getLogger(__name__)

LEAST = 10  # follow-ups of a side in each part of the split
PERCENT = {"validation": 10, "test": 10}  # of the users


@dataclass(frozen=True)
class Example:
    """A labelled turn.

    Attributes:
        request: what the classifier reads.
        shares: (5,) of the readers, how many gave each level.
        owner: the user, or the conversation where the user is not known.
    """

    request: Request
    shares: tuple[float, ...]
    owner: str

    @property
    def level(self) -> int:
        """The level that most readers gave, the lowest of several."""
        return int(np.argmax(self.shares)) + 1


def shares_of(levels: Sequence[int]) -> tuple[float, ...]:
    """Of readings of one follow-up, how many gave each level.

    >>> shares_of([2, 3])
    (0.0, 0.5, 0.5, 0.0, 0.0)
    """
    return tuple(levels.count(level) / len(levels) for level in range(1, 6))


def read_readings(path: str) -> dict[str, list[int]]:
    """Turn id → the levels that its readers gave, from JSONL or parquet with `id` and `level`, a row a reading.

    Raises:
        UserError: a row does not fit, naming its place.
    """
    readings: dict[str, list[int]] = defaultdict(list)
    for where, row in read_rows(Path(path), "labels"):
        name, level = row.get("id"), row.get("level")
        if not isinstance(name, str) or isinstance(level, bool) or level not in (1, 2, 3, 4, 5):
            raise UserError(f"{where}: {described(row)}; expected id, a text, and level, a whole number from 1 to 5")
        readings[name].append(int(level))
    return readings


def read_examples(source: str, readings: Mapping[str, list[int]], folder: Path, on_bad_input: str) -> list[Example]:
    """The labelled turns of the source, read as `build-dataset` reads it; labels of other turns are counted in the log.

    Args:
        source: the chats, as for `build_dataset`.
        readings: see `read_readings`.
        folder: for files that are needed meanwhile; it is removed.
        on_bad_input: as for `build_dataset`.
    """
    limits = {"languages": (), "mining_window": 0, "max_words": 2**31 - 1}
    job = prepare(
        source, folder, labeler="cues", labeler_options={"classifier": False}, on_bad_input=on_bad_input, **limits
    )
    found = []
    make_folder(job.plan.folder)
    with Workers(1, job.plan) as workers:
        stages.read(job, workers)
        stages.index(job, workers)
        for part in job.parts:
            for turn in steps.turns_of(job.plan, part):
                if levels := readings.get(turn.id):
                    owner = turn.conversation.user_id or turn.conversation.conversation_id
                    found.append(Example(request_for(turn, "feedback", with_key=False), shares_of(levels), owner))
    shutil.rmtree(folder)
    if missing := len(readings) - len(found):
        logger.warning("%d of %d labelled turns are not in the source (copies among them)", missing, len(readings))
    return found


def split(examples: Sequence[Example], test_ids: set[str], seed: int) -> dict[str, list[Example]]:
    """Whole users to train, validation and test.

    Args:
        examples: all labelled turns.
        test_ids: turns to test on, and on no others; all labels of their users stay out of training. Empty: a tenth of the users.
        seed: of the split.

    Raises:
        UserError: a part has too few follow-ups of one side to learn or choose anything from.
    """
    test_owners = {example.owner for example in examples if example.request.turn_id in test_ids}
    parts: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for example in examples:
        place = int(hashlib.sha256(f"{seed} {example.owner}".encode()).hexdigest(), 16) % 100
        in_test = example.owner in test_owners if test_ids else place >= 100 - PERCENT["test"]
        if not in_test:
            parts["validation" if place < PERCENT["validation"] else "train"].append(example)
        elif not test_ids or example.request.turn_id in test_ids:
            parts["test"].append(example)
    for name, rows in parts.items():
        for side, levels in SIDES.items():
            count = sum(example.level in levels for example in rows)
            if count < LEAST:
                raise UserError(
                    f"{count} {side} follow-ups are in the {name} part ({len(rows)} labelled turns); expected at least "
                    f"{LEAST} in each of train, validation and test: label more turns, of more users"
                )
    return parts
