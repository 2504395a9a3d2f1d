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
Predict = Callable[[Rows], list[list[float]]]
SHARE = 4  # a request gets at most this part of a pass while others have not had theirs


class Overloaded(Exception):
    """More rows wait than the queue may hold."""


class Stopped(RuntimeError):
    """Nobody computes any more."""

    def __init__(self) -> None:
        super().__init__("the server stops; ask again later")


@dataclass(eq=False)
class _Job:
    rows: Rows
    future: Future[list[list[float]]] = field(default_factory=Future)
    results: list[list[float]] = field(default_factory=list)
    taken: int = 0  # rows that a pass has taken

    @property
    def left(self) -> int:
        return len(self.rows) - self.taken


Part = tuple[_Job, int, int]  # a request, and which of its rows: first, end


class Batcher:
    """Scores rows of token ids for many callers at once.

    Args:
        predict: scores rows; raises ValueError where one of them has no score, RuntimeError where the hardware fails.
        token_budget: tokens of a pass; a longer row is a pass of its own.
        max_waiting: rows that may wait, those only reserved included.
    """

    def __init__(self, predict: Predict, token_budget: int, max_waiting: int) -> None:
        self.predict, self.token_budget, self.max_waiting = predict, token_budget, max_waiting
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

    def reserve(self, count: int) -> None:
        """Keep room for `count` rows, until they are submitted or the room is given back with `release`.

        Raises:
            Overloaded: there is none.
        """
        with self._changed:
            if self.waiting + count > self.max_waiting:
                raise Overloaded(f"{self.waiting} conversations wait, of at most {self.max_waiting}; try again later")
            self.waiting += count

    def release(self, count: int) -> None:
        """Give reserved room back."""
        with self._changed:
            self.waiting -= count

    def submit(self, rows: Rows) -> Future[list[list[float]]]:
        """Score rows, for which room is reserved, in the background: a future of `[score, P(1), …, P(K)]` for each.

        Cancelling the future takes back what has not been computed.

        Raises:
            Stopped: the batcher is closed. The future, when it is closed before all rows are taken.
        """
        job = _Job(rows)
        with self._changed:
            if self._closed:
                raise Stopped
            if rows:
                self._jobs.append(job)
                self._changed.notify()
            else:
                job.future.set_result([])
        return job.future

    def close(self) -> None:
        """Take no more, finish the pass under way, fail what waits with `Stopped`, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        taken: list[Part] = []
        try:
            while taken := self._take():
                self._score(taken)
        finally:  # closed, or with an error that nobody foresaw: whoever waits must hear of it
            with self._changed:
                self._closed = True
                left = [*(job for job, _, _ in taken), *self._jobs]
                for job in list(self._jobs):
                    self._remove(job)
            for job in left:
                _fail(job, Stopped())

    def _take(self) -> list[Part]:
        """The next pass; empty when the batcher is closed."""
        with self._changed:
            while True:
                for job in [job for job in self._jobs if job.future.cancelled()]:
                    self._remove(job)
                if self._closed:
                    return []
                if self._jobs:
                    break
                self._changed.wait()
            starts = {job: job.taken for job in self._jobs}
            left = self.token_budget
            for share in (left if len(starts) == 1 else left // SHARE, left):
                for job in starts:
                    left -= _advance(job, min(share, left), first=left == self.token_budget)
            taken = [(job, start, job.taken) for job, start in starts.items() if job.taken > start]
            self.waiting -= sum(end - start for _, start, end in taken)
            served = {job for job, _, _ in taken}  # behind those that got nothing
            self._jobs = deque(sorted((job for job in self._jobs if job.left), key=lambda job: job in served))
            return taken

    def _score(self, taken: list[Part]) -> None:
        """Score a pass; where it fails, each request's part by itself, so that one cannot spoil the others."""
        try:
            results = iter(self.predict([row for job, start, end in taken for row in job.rows[start:end]]))
        except (ValueError, RuntimeError) as error:
            if len(taken) > 1:
                for part in taken:
                    self._score([part])
                return
            job = taken[0][0]
            logger.error("a request could not be scored: %s", error)
            with self._changed:
                self._remove(job)
            _fail(job, error)
            return
        for job, start, end in taken:
            job.results += [next(results) for _ in range(start, end)]
            if len(job.results) == len(job.rows) and job.future.set_running_or_notify_cancel():
                job.future.set_result(job.results)

    def _remove(self, job: _Job) -> None:
        """Take what is left of a request out of the queue; to be called with the lock held."""
        if job in self._jobs:
            self._jobs.remove(job)
            self.waiting -= job.left


def _advance(job: _Job, room: int, first: bool) -> int:
    """Take rows of a request that fit into `room` tokens, the first of a pass whatever its length; their tokens."""
    tokens = 0
    while job.left and (tokens + len(job.rows[job.taken]) <= room or (first and not tokens)):
        tokens += len(job.rows[job.taken])
        job.taken += 1
    return tokens


def _fail(job: _Job, error: Exception) -> None:
    if not job.future.done() and job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)
