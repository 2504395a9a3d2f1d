"""Every answer of a paid labeler, written down as it comes, so that no crash loses one.

A ledger is an append-only JSONL file, one answer a line, keyed by the request's content, the task and the labeler's
version. Each line goes to the system at once, so a killed process loses none; lines are forced onto the disk in groups (by
count and by age), for power cuts. A line cut off by a crash is dropped on opening; what was in it is asked again.
"""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from wildreward.dataset_builder.labelers.base import Answer
from wildreward.errors import UserError

GROUP = 64
MAX_AGE = 1.0


class Ledger:
    """The answers of one part. Open with `with`; closing flushes.

    Args:
        path: the file; made when missing.
        version: the labeler's name and version; answers of other versions are kept but not returned.
    """

    def __init__(self, path: Path, version: str) -> None:
        self.path, self.version = path, version
        self.answers: dict[str, Answer] = {}
        self._waiting, self._since = 0, 0.0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            good = self._read() if path.exists() else 0
            self._handle = open(path, "ab", buffering=0)  # noqa: SIM115 - held until close
            self._handle.truncate(good)
        except OSError as error:
            raise self._cannot_write(error) from error

    def add(self, answer: Answer) -> None:
        """Write an answer down; it is on disk after at most `GROUP` answers or `MAX_AGE` seconds of adding."""
        line = json.dumps({"version": self.version, **asdict(answer)}, ensure_ascii=True)
        now = time.monotonic()
        if not self._waiting:
            self._since = now
        try:
            self._write(line.encode() + b"\n")
            self._waiting += 1
            if self._waiting >= GROUP or now - self._since > MAX_AGE:
                self.flush()
        except OSError as error:
            raise self._cannot_write(error) from error
        self.answers[answer.key] = answer

    def flush(self) -> None:
        """Everything added so far is on disk when this returns."""
        try:
            os.fsync(self._handle.fileno())
        except OSError as error:
            raise self._cannot_write(error) from error
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

    def _read(self) -> int:
        """Load the answers; returns where the last complete line ends."""
        good = 0
        with open(self.path, "rb") as handle:
            for line in handle:
                if not line.endswith(b"\n"):
                    break
                good += len(line)
                try:
                    fields = json.loads(line)
                    version = fields.pop("version")
                    answer = Answer(**fields)
                except (ValueError, TypeError, KeyError, AttributeError):
                    continue  # a block the disk lost in a power cut: asked again
                if version == self.version:
                    self.answers[answer.key] = answer
        return good

    def _cannot_write(self, error: OSError) -> UserError:
        return UserError(
            f"cannot write the ledger {self.path}: {error.strerror or error}; "
            "answers so far are kept, free some space and run the same command again"
        )
