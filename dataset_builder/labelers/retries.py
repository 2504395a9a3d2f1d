"""When a question is asked again and when it is given up: the one place that decides it for every labeler behind a server.

Two things are told apart. A *row* may be at fault: the server fails on it, or its replies cannot be read, while other rows
get answers; then it ends unlabelled, with a reason. Or the *server* is: then no row is given up, and the run stops when
nothing has succeeded for long.
"""

import logging
import random
import time
from dataclasses import dataclass
from typing import Self

from wildreward.dataset_builder.labelers.base import DEADLINE, REJECTED, SERVER_ERROR, Answer, Request
from wildreward.dataset_builder.labelers.endpoint import Rejected, Throttled, TimedOut, Transient
from wildreward.dataset_builder.labelers.parsing import Reading
from wildreward.dataset_builder.labelers.rate import AdaptiveLimit
from wildreward.errors import UserError

logger = logging.getLogger(__name__)

# How often the form of one row's question may be changed to suit the server.
MAX_ADAPTATIONS = 6
# A server that refuses so many rows, and never answered any, is asked no more.
FIRST_REJECTIONS = 8


@dataclass
class Patience:
    """When to try again and when to stop.

    Attributes:
        attempt_seconds: from sending a request to the last byte of its answer.
        row_seconds: for all attempts and pauses of one row; waiting because the server is overloaded is not counted.
        max_failures: server errors, broken connections and timeouts of one row while others get answers.
        max_readings: replies of one row that cannot be read.
        stall_seconds: the run stops when it has only had failures for so long.
        max_unusable_rows: the run stops after so many rows in a row without a usable reply.
        first_pause, longest_pause: before trying a row again, doubled each time, with jitter.
    """

    attempt_seconds: float = 120.0
    row_seconds: float = 900.0
    max_failures: int = 6
    max_readings: int = 3
    stall_seconds: float = 300.0
    max_unusable_rows: int = 200
    first_pause: float = 0.5
    longest_pause: float = 30.0

    @classmethod
    def of(cls, attempt_seconds: float) -> Self:
        """All deadlines in proportion to that of one attempt."""
        if not attempt_seconds > 0:
            raise UserError(f"--timeout is {attempt_seconds}; expected more than 0 seconds")
        return cls(attempt_seconds, row_seconds=7.5 * attempt_seconds, stall_seconds=max(300.0, 2.5 * attempt_seconds))

    def pause(self, failures: int) -> float:
        """Seconds to wait after so many failures of a row, with jitter."""
        longest = min(self.longest_pause, self.first_pause * 2 ** (failures - 1))
        return random.uniform(0.5, 1.0) * longest


@dataclass
class Row:
    """One question on its way to an answer. `unread` counts replies that could not be read."""

    request: Request
    attempts: int = 0
    failures: int = 0
    unread: int = 0
    adaptations: int = 0
    failing_since: float = 0.0
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def answer(self, reading: Reading | None, reason: str = "") -> Answer:
        reading = reading or Reading()
        return Answer(
            self.request.key,
            reading.level,
            confidence=reading.confidence,
            reason=reason,
            verdict=reading.verdict,
            attempts=self.attempts,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
        )


class GivenUp(Exception):
    """A row will not be asked again; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Retries:
    """Decides after every attempt of every row; raises `GivenUp` for a row and `UserError` for the run.

    Args:
        patience: see `Patience`.
        limit: how many requests may be under way; learns from every outcome.
    """

    def __init__(self, patience: Patience, limit: AdaptiveLimit) -> None:
        self.patience, self.limit = patience, limit
        self.rows_under_way = 0
        self._last_reply = -1.0
        self._failing_since: float | None = None
        self._unusable_rows = 0
        self._rejected_rows = 0

    def seconds_for(self, row: Row) -> float:
        """How long the next attempt may take."""
        remaining = self.patience.row_seconds - row.seconds
        if remaining <= 0 and self._row_is_to_blame(row):
            raise GivenUp(DEADLINE)
        # Past its deadline, a row is only asked on in an outage, which is not its fault.
        return min(self.patience.attempt_seconds, remaining if remaining > 0 else float("inf"))

    def throttled(self, error: Throttled, sent_at: float) -> None:
        """The server has too much to do. That costs the row nothing."""
        self.limit.throttled(sent_at, error.retry_after)
        self._server_failed(str(error), error.retry_after or 0.0)

    def failed(self, row: Row, error: Transient, sent_at: float) -> float:
        """A server error, a broken connection or a timeout. Returns the seconds to wait before asking again."""
        row.failing_since = row.failing_since if row.failures else sent_at
        row.failures += 1
        if isinstance(error, TimedOut):
            self.limit.throttled(sent_at, retry_after=0.0)
        self._server_failed(str(error))
        if row.failures >= self.patience.max_failures and self._row_is_to_blame(row):
            raise GivenUp(SERVER_ERROR)
        return self.patience.pause(row.failures)

    def rejected(self, row: Row, error: Rejected, adapted: bool) -> None:
        """The server refuses the request; `adapted`: the next one will look different."""
        if adapted and row.adaptations < MAX_ADAPTATIONS:
            row.adaptations += 1
            return
        self._rejected_rows += 1
        first, later = FIRST_REJECTIONS, self.patience.max_unusable_rows
        if self._rejected_rows >= (first if self._last_reply < 0 else later):
            raise UserError(f"the server refuses every request: {error}; check --model and --extra-body")
        raise GivenUp(REJECTED)

    def unreadable(self, row: Row, reason: str) -> None:
        """A reply came, but without a level or verdict: the server works, whatever the model says."""
        self._replied()
        row.unread += 1
        if row.unread < self.patience.max_readings:
            return
        self._unusable_rows += 1
        if self._unusable_rows >= self.patience.max_unusable_rows:
            raise UserError(
                f"{self._unusable_rows} rows in a row got no usable reply from the model (last reason: {reason}); "
                "choose a model that follows the format; give truncated replies more room with --max_answer_tokens 4096"
            )
        raise GivenUp(reason)

    def answered(self) -> None:
        """A usable reply."""
        self._replied()
        self._unusable_rows = self._rejected_rows = 0

    def _replied(self) -> None:
        self._last_reply, self._failing_since = time.monotonic(), None

    def _server_failed(self, message: str, wait: float = 0.0) -> None:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
            logger.warning("the labeling server does not answer as it should (%s); trying again", message)
        seconds = now - self._failing_since
        if wait > self.patience.stall_seconds:
            reason = f"the server asks to wait {wait:.0f} s ({message})"
        elif seconds + wait > self.patience.stall_seconds:
            reason = f"no request succeeded for {seconds:.0f} s (last failure: {message})"
        else:
            return
        raise UserError(f"{reason}; check the server, then run the same command again: finished answers are kept")

    def _row_is_to_blame(self, row: Row) -> bool:
        """Others get replies and this row does not, or it is the only one left. In an outage no row is given up."""
        return self._last_reply > row.failing_since or (self.rows_under_way == 1 and self._last_reply >= 0)
