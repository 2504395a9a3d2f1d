"""Labelled turns for the classifier of follow-ups: joined with their chats, and split by user."""

import hashlib
import logging
import math
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wildreward.common.errors import UserError, described
from wildreward.common.files import make_folder
from wildreward.common.rows import read_rows
from wildreward.dataset_builder import stages
from wildreward.dataset_builder.labelers.base import Request
from wildreward.dataset_builder.labelers.classifier import SIDES
from wildreward.dataset_builder.prepare import prepare
from wildreward.dataset_builder.records import request_for
from wildreward.dataset_builder.settings import BuildSettings

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


def shares_of(readings: Sequence[int | Sequence[float]]) -> tuple[float, ...]:
    """The mean of the readings of one follow-up, each a level or the shares of the five levels.

    >>> shares_of([2, (0.0, 0.2, 0.8, 0.0, 0.0)])
    (0.0, 0.6, 0.4, 0.0, 0.0)
    """
    rows = [np.eye(5)[reading - 1] if isinstance(reading, int) else np.asarray(reading) for reading in readings]
    return tuple(np.mean([row / row.sum() for row in rows], axis=0).tolist())


def read_readings(path: str) -> dict[str, list[int | list[float]]]:
    """Turn id → what its readers said, from JSONL or parquet, a row a reading: `id`, and `level` or, of a reader that gives
    probabilities, `shares` of the five levels.

    Raises:
        UserError: a row does not fit, naming its place.
    """
    readings: dict[str, list[int | list[float]]] = defaultdict(list)
    for where, row in read_rows(Path(path), "labels"):
        name, level, shares = row.get("id"), row.get("level"), row.get("shares")
        reading: int | list[float] | None = None
        if level is None and _are_shares(shares):
            reading = [float(share) for share in shares]
        elif level in (1, 2, 3, 4, 5) and not isinstance(level, bool):
            reading = int(level)
        if not isinstance(name, str) or reading is None:
            raise UserError(
                f"{where}: {described(row)}; expected id, a text, and level, a whole number from 1 to 5 (or shares, five "
                "numbers that say how likely each level is)"
            )
        readings[name].append(reading)
    return readings


def _are_shares(value: Any) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 5:
        return False
    numbers = [share for share in value if isinstance(share, int | float) and 0 <= share < math.inf]
    return len(numbers) == 5 and sum(numbers) > 0


def read_examples(
    source: str, readings: Mapping[str, list], folder: Path, on_bad_input: str, base_model: str
) -> list[Example]:
    """The labelled turns of the source, read as `build-dataset` reads it; labels of other turns are counted in the log.

    Args:
        source: the chats, as for `build_dataset`.
        readings: see `read_readings`.
        folder: for files that are needed meanwhile; it is removed.
        on_bad_input: as for `build_dataset`.
        base_model: an encoder that is there; nothing is labelled with it.
    """
    limits = {"languages": [], "mining_window": 0, "max_words": 2**31 - 1, "classifier_base": base_model}
    build = prepare(BuildSettings(source=source, output=str(folder), on_bad_input=on_bad_input, **limits))
    found = []
    make_folder(build.work)
    stages.read(build, range(len(build.slices)))
    stages.shard(build, [0])
    for shard in build.shards:
        for turn in stages.turns_of(build, shard):
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
