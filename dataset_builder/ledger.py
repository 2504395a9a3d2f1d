"""Every answer of a paid labeler, written down as it comes, so that no crash loses one.

A ledger is an append-only JSONL file, one answer a line, keyed by the request's content, the task and the labeler's
version. Each line goes to the system at once, so a killed process loses none; lines are forced onto the disk in groups (by
count and by age), for power cuts. A line cut off by a crash is dropped on opening; what was in it is asked again.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from wildreward.dataset_builder.labelers.base import Answer
from wildreward.errors import UserError
from wildreward.files import lock_file

GROUP = 64
MAX_AGE = 1.0


class Ledger:
    """The answers of one part. Open with `with`; closing flushes.

    Args:
        path: the file; made when missing.
        version: the labeler's name and version; answers of other versions are kept but not returned.

    Raises:
        UserError: it cannot be written, or another process has it open: an answer would be bought twice.

    Attributes:
        answers: by key; of several answers to one question the last.
        offsets: the byte at which the line of each answer begins.
    """

    def __init__(self, path: Path, version: str) -> None:
        self.path, self.version = path, version
        self.answers: dict[str, Answer] = {}
        self.offsets: dict[str, int] = {}
        self._waiting, self._since = 0, 0.0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = open(path, "ab", buffering=0)  # noqa: SIM115 - held until close
            lock_file(self._handle, path)
            self._end = 0
            for line, offset in _complete_lines(path):
                self._end = offset + len(line)
                if (answer := _parse(line, version)) is not None:
                    self.answers[answer.key], self.offsets[answer.key] = answer, offset
            self._handle.truncate(self._end)
        except OSError as error:
            raise _cannot_write(path, error) from error

    def add(self, answer: Answer) -> None:
        """Write an answer down; it is on disk after at most `GROUP` answers or `MAX_AGE` seconds of adding."""
        line = json.dumps({"version": self.version, **asdict(answer)}, ensure_ascii=True).encode() + b"\n"
        now = time.monotonic()
        if not self._waiting:
            self._since = now
        try:
            self._write(line)
            self._waiting += 1
            if self._waiting >= GROUP or now - self._since > MAX_AGE:
                self.flush()
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        self.answers[answer.key], self.offsets[answer.key] = answer, self._end
        self._end += len(line)

    def flush(self) -> None:
        """Everything added so far is on disk when this returns."""
        try:
            os.fsync(self._handle.fileno())
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        self._waiting = 0

    def close(self) -> None:
        if self._waiting:
            self.flush()
        self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        while data:
            data = data[self._handle.write(data) :]


class AttemptCount:
    """How often a labeler was asked for one part, by all runs: the size of a file that gets a byte before each attempt.

    The byte is with the system when the attempt begins, so a killed process loses no count of what it had under way.
    Nothing else keeps it: answers count only the attempts that led to them.

    Args:
        path: the file; made when missing. Whoever holds the part's ledger may write to it, from any thread.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = open(path, "ab", buffering=0)  # noqa: SIM115 - held until close
        except OSError as error:
            raise _cannot_write(path, error) from error

    def add(self) -> None:
        try:
            self._handle.write(b".")
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def close(self) -> None:
        self._handle.close()


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write the ledger {path}: {error.strerror or error}; "
        "answers so far are kept, free some space and run the same command again"
    )


def read_ledger(path: Path, version: str) -> Iterator[tuple[Answer, int]]:
    """The answers of one version, each with the byte at which its line begins."""
    for line, offset in _complete_lines(path):
        if (answer := _parse(line, version)) is not None:
            yield answer, offset


def read_answer(path: Path, offset: int, version: str) -> Answer | None:
    """The answer whose line begins at byte `offset`."""
    with open(path, "rb") as handle:
        handle.seek(offset)
        return _parse(handle.readline(), version)


def _complete_lines(path: Path) -> Iterator[tuple[bytes, int]]:
    offset = 0
    with open(path, "rb") as handle:
        for line in handle:
            if not line.endswith(b"\n"):
                return
            yield line, offset
            offset += len(line)


def _parse(line: bytes, version: str) -> Answer | None:
    try:
        fields = json.loads(line)
        return Answer(**fields) if fields.pop("version") == version else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None  # a block the disk lost in a power cut: asked again
