"""Finished answers of all parts, so that a copy of a turn in another part is not paid for again.

Answers stay in their ledgers; in memory is only where each one stands: 16 bytes an answer, in sorted arrays.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from wildreward.dataset_builder.labelers.base import WORTH_ASKING_AGAIN, Answer
from wildreward.dataset_builder.ledger import read_answer, read_ledger
from wildreward.dataset_builder.parts import hash64

_OFFSET_BITS = 40


class Answered:
    """Where the answers of one folder of ledgers stand.

    Args:
        folder: of the ledgers; those that are there already are read once, also the ones of other processes.
        version: the labeler's name and version.
    """

    def __init__(self, folder: Path, version: str) -> None:
        self.version = version
        self.paths: list[Path] = []
        self._places = _SortedPlaces()
        for path in sorted(folder.glob("*.jsonl")):
            self.add(path, ((answer, offset) for answer, offset in read_ledger(path, version)))

    def add(self, path: Path, answers: Iterable[tuple[Answer, int]]) -> None:
        """Remember the answers of a ledger, each with the byte at which its line begins."""
        number = len(self.paths) << _OFFSET_BITS
        found = [(hash64(answer.key), number | offset) for answer, offset in answers if is_final(answer)]
        if found:
            self.paths.append(path)
            self._places.add(*np.array(found, np.int64).T)

    def find(self, key: str) -> Answer | None:
        """The answer to a request with this key, if there is one."""
        place = self._places.find(hash64(key))
        if place is None:
            return None
        path, offset = self.paths[place >> _OFFSET_BITS], place & ((1 << _OFFSET_BITS) - 1)
        answer = read_answer(path, offset, self.version)
        return answer if answer and answer.key == key else None


def is_final(answer: Answer) -> bool:
    """Whether asking again would only give the same: false where the server failed or was too slow."""
    return answer.reason not in WORTH_ASKING_AGAIN


class _SortedPlaces:
    """Hash → place in a few pairs of arrays sorted by hash, the longer the older; short ones are merged as they come."""

    def __init__(self) -> None:
        self._arrays: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, hashes: np.ndarray, places: np.ndarray) -> None:
        while self._arrays and len(self._arrays[-1][0]) <= len(hashes):
            before = self._arrays.pop()
            hashes, places = np.concatenate([before[0], hashes]), np.concatenate([before[1], places])
        order = np.argsort(hashes, kind="stable")
        self._arrays.append((hashes[order], places[order]))

    def find(self, key: int) -> int | None:
        key = np.int64(key)
        for hashes, places in self._arrays:
            row = hashes.searchsorted(key)
            if row < len(hashes) and hashes[row] == key:
                return int(places[row])
        return None
