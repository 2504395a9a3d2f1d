"""Many requests, one model: rows of all that wait are scored together, in turn, and a full queue says so.

One thread computes. Each pass takes rows from the requests that wait, in turn and up to a token budget, so a request with
thousands of rows does not hold up one with a single row, and no request waits for a batch to fill.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

Rows = Sequence[Sequence[int]]
Judge = Callable[[Rows], list[list[float]]]
SHARE = 4  # a request gets at most this part of a pass while others wait


class Overloaded(Exception):
    """More rows wait than the queue may hold."""


@dataclass(eq=False)
class _Job:
    rows: Rows
    future: Future[list[list[float]]] = field(default_factory=Future)
    results: list[list[float]] = field(default_factory=list)
    taken: int = 0  # rows that a pass has taken


class Batcher:
    """Scores rows of token ids for many callers at once.

    Args:
        judge: scores rows; raises ValueError where one of them has no score, RuntimeError where the hardware fails.
        token_budget: tokens of a pass; a longer row is a pass of its own.
        max_waiting: rows that may wait.
    """

    def __init__(self, judge: Judge, token_budget: int, max_waiting: int) -> None:
        self.judge, self.token_budget, self.max_waiting = judge, token_budget, max_waiting
        self.waiting = 0
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether somebody computes."""
        return self._thread.is_alive()

    def check_room(self, count: int) -> None:
        """Say whether `count` more rows would be taken now.

        Raises:
            Overloaded: they would not.
        """
        if self.waiting + count > self.max_waiting:
            raise Overloaded(f"{self.waiting} conversations wait, of at most {self.max_waiting}; try again later")

    def submit(self, rows: Rows) -> Future[list[list[float]]]:
        """Score rows in the background: a future of `[score, P(1), …, P(K)]` for each.

        Raises:
            Overloaded: too many rows wait.
            RuntimeError: the batcher is closed.
        """
        job = _Job(rows)
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self.check_room(len(rows))
            if not rows:
                job.future.set_result([])
                return job.future
            self.waiting += len(rows)
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Take no more, finish what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while taken := self._take():
                self._score(taken)
        finally:
            with self._changed:
                self._closed = True
                left, self._jobs = list(self._jobs), deque()
            for job in left:
                _fail(job, RuntimeError("the server stops"))

    def _take(self) -> list[tuple[_Job, int, int]]:
        """The next pass: (job, first row, end) of each request that has a part in it; empty when all is done."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            left, taken = self.token_budget, []
            share = self.token_budget if len(self._jobs) == 1 else self.token_budget // SHARE
            for _ in range(len(self._jobs)):
                if left <= 0:
                    break
                job = self._jobs.popleft()
                start, room = job.taken, min(left, share)
                while job.taken < len(job.rows) and (
                    room >= len(job.rows[job.taken]) or (not taken and job.taken == start)
                ):
                    room -= len(job.rows[job.taken])
                    left -= len(job.rows[job.taken])
                    job.taken += 1
                if job.taken > start:
                    taken.append((job, start, job.taken))
                if job.taken < len(job.rows):
                    self._jobs.append(job)
            self.waiting -= sum(end - start for _, start, end in taken)
            return taken

    def _score(self, taken: list[tuple[_Job, int, int]]) -> None:
        """Score a pass; where it fails, each request's part by itself, so that one cannot spoil the others."""
        try:
            results = iter(self.judge([row for job, start, end in taken for row in job.rows[start:end]]))
            for job, start, end in taken:
                self._give(job, [next(results) for _ in range(start, end)])
        except (ValueError, RuntimeError) as error:
            if len(taken) > 1:
                for part in taken:
                    self._score([part])
                return
            job = taken[0][0]
            logger.error("a request could not be scored: %s", error)
            self._drop(job)
            _fail(job, error)

    def _give(self, job: _Job, results: list[list[float]]) -> None:
        job.results += results
        if len(job.results) == len(job.rows) and job.future.set_running_or_notify_cancel():
            job.future.set_result(job.results)

    def _drop(self, job: _Job) -> None:
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
                self.waiting -= len(job.rows) - job.taken


def _fail(job: _Job, error: Exception) -> None:
    if job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)
