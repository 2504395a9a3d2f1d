"""Puts many questions to one server at once, and gives an answer for each, or the reason why there is none.

`EndpointAsker.ask_many` is an ordinary iterator over an ordinary iterator; an event loop in a thread of its own does the
waiting. Requests are pulled only as there is room and answers come out as they finish, so that at most `concurrency`
requests and a small lead are pulled and not yet handed back: that is all a killed process can lose.

When an attempt fails, either the *row* is at fault (the server fails on it while others get answers) and ends without an answer,
with a reason; or the *server* is, and then no row is given up: the run stops when nothing has succeeded for long. A retry
that knows one request only cannot tell, so the client's own retries are off.
"""

import asyncio
import logging
import queue
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, Self

from wildreward.common.errors import UserError
from wildreward.common.llm.answers import DEADLINE, REJECTED, SERVER_ERROR, Answer, Reading, Unusable
from wildreward.common.llm.endpoint import (
    AttemptFailed,
    Endpoint,
    check_address,
    check_api_key,
    is_too_long,
    load_openai,
)
from wildreward.common.llm.quoting import Budget, report_cut_rows
from wildreward.common.settings import check_least

logger = logging.getLogger(__name__)

# How often one row's question may be changed to suit the server.
MAX_ADAPTATIONS = 6
# A server that refuses so many rows, and never answered any, is asked no more.
FIRST_REJECTIONS = 8


@dataclass(frozen=True)
class RetryPolicy:
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
        """Seconds to wait after so many failures of a row."""
        return random.uniform(0.5, 1.0) * min(self.longest_pause, self.first_pause * 2 ** (failures - 1))


class Question(Protocol):
    """What is asked."""

    @property
    def key(self) -> str:
        """Equal questions have equal keys."""
        ...

    @property
    def on_ask(self) -> Callable[[], object]:
        """Called before each attempt, in whatever thread: so that what a killed process had under way is counted, too."""
        ...


class EndpointAsker(ABC):
    """Whoever asks a model behind a server; subclasses say how a question is put and a reply is read.

    Args:
        base_url: the server, up to and including `/v1`; None for OpenAI's own.
        api_key_env: environment variable that holds the key, where the server wants one.
        concurrency: the most requests under way at once.
        budget: how much of a conversation is shown.
        retry_policy: see there.
    """

    path: str  # below the server's base URL

    def __init__(
        self,
        base_url: str | None,
        api_key_env: str,
        concurrency: int,
        budget: Budget | None,
        retry_policy: RetryPolicy | None,
    ) -> None:
        check_least(("concurrency", concurrency, 1))
        load_openai()
        check_address(base_url)
        check_api_key(base_url, api_key_env)
        self.endpoint = base_url, api_key_env
        self.concurrency, self.budget, self.policy = concurrency, budget or Budget(), retry_policy or RetryPolicy()
        self.cut_rows = 0

    @abstractmethod
    def body(self, question: Any, budget: Budget, asked_before: int) -> tuple[dict[str, Any], bool]:
        """The JSON to send, and whether the conversation is shown in part only; `asked_before` counts replies to this
        question that could not be read."""

    @abstractmethod
    def read(self, sent: dict[str, Any], payload: Any, question: Any) -> Reading:
        """Read the reply to `sent`, or raise `Unusable`."""

    def adapt(self, sent: dict[str, Any], message: str) -> bool:
        """After a rejection: leave out what this server does not take. True when sending again makes sense."""
        return False

    def ask_many(self, questions: Iterable[Question]) -> Generator[Answer, None, None]:
        """Exactly one answer to each question, in whatever order they come; once it is closed nothing is left running."""
        client, loop = AskClient(self), asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="asker", daemon=True)
        thread.start()
        finished: queue.SimpleQueue[Answer | Exception] = queue.SimpleQueue()
        source, under_way = iter(questions), 0
        room = self.concurrency + max(2, self.concurrency // 8)
        try:
            while True:
                while under_way < room and (question := next(source, None)) is not None:
                    loop.call_soon_threadsafe(client.start, question, finished.put)
                    under_way += 1
                if not under_way:
                    return
                answer = finished.get()
                if isinstance(answer, Exception):
                    raise answer
                under_way -= 1
                yield answer
        finally:
            asyncio.run_coroutine_threadsafe(client.close(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def close(self) -> None:
        report_cut_rows(self.cut_rows)


class AdaptiveLimit:
    """How many requests may be under way: a semaphore whose size follows the server. `async with` takes a place.

    A refusal for load halves the size and holds new requests back, for as long as the server asks or else for a growing
    pause. Refusals of requests that were sent before that cut belong to the same burst and do not cut again. Every good
    answer gives a little back: a full recovery from half takes eight rounds of answers.

    Args:
        maximum: the most requests under way at once, also the start.
        first_pause, longest_pause: seconds to hold back when the server names no time: doubled with every burst.
    """

    def __init__(self, maximum: int, first_pause: float = 1.0, longest_pause: float = 60.0) -> None:
        self.maximum, self.first_pause, self.longest_pause = maximum, first_pause, longest_pause
        self.size = float(maximum)
        self.opens_at = self._last_cut = -float("inf")
        self._bursts = self._withheld = 0
        self._places = asyncio.Semaphore(maximum)

    async def __aenter__(self) -> None:
        await self._places.acquire()
        while (wait := self.opens_at - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    async def __aexit__(self, *error: object) -> None:
        if self._withheld < self.maximum - int(self.size):
            self._withheld += 1
        else:
            self._places.release()

    def throttled(self, sent_at: float, retry_after: float | None) -> None:
        """The server refused a request, sent at `sent_at`, for load, and may have said how many seconds to wait."""
        now = time.monotonic()
        if sent_at > self._last_cut:
            self._last_cut, self.size = now, max(1.0, self.size / 2)
            if retry_after is None:
                pause = min(self.longest_pause, self.first_pause * 2**self._bursts)
                retry_after = pause * random.uniform(0.75, 1.25)
            self._bursts += 1
        self.opens_at = max(self.opens_at, now + (retry_after or 0.0))

    def succeeded(self) -> None:
        """The server answered a request."""
        self._bursts = 0
        self.size = min(float(self.maximum), self.size + max(1.0, self.maximum / 16) / self.size)
        while self._withheld > self.maximum - int(self.size):
            self._withheld -= 1
            self._places.release()


@dataclass
class Row:
    """One question on its way to an answer. `unread` counts replies that could not be read; `failing_since` is when the
    first attempt that failed was sent."""

    question: Question
    budget: Budget
    attempts: int = 0
    failures: int = 0
    unread: int = 0
    adaptations: int = 0
    cut: bool = False
    failing_since: float = 0.0
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class RowFailed(Exception):
    """A row will not be asked again; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class AskClient:
    """The requests of one run to one server; decides after every attempt whether to ask again, give up the row or stop."""

    def __init__(self, asker: EndpointAsker) -> None:
        self.asker, self.policy = asker, asker.policy
        self.endpoint = Endpoint(*asker.endpoint, asker.concurrency)
        self.limit = AdaptiveLimit(asker.concurrency)
        self.rows_under_way = self.unusable_rows = self.rejected_rows = 0
        self.last_reply = 0.0
        self.failing_since: float | None = None
        self.stopped: Exception | None = None  # why no more is asked
        self.tasks: set[asyncio.Task] = set()

    def start(self, question: Question, deliver: Callable[[Answer | Exception], object]) -> None:
        """Begin to ask; the answer is delivered, or a `UserError` when going on is pointless."""
        task = asyncio.ensure_future(self._deliver(question, deliver))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self) -> None:
        """Cancel what is under way and close the connections."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.endpoint.close()

    async def _deliver(self, question: Question, deliver: Callable[[Answer | Exception], object]) -> None:
        try:
            deliver(await self._answer(question))
        except Exception as error:  # raised in the caller's thread
            self.stopped = error
            deliver(error)

    async def _answer(self, question: Question) -> Answer:
        row = Row(question, self.asker.budget)
        self.rows_under_way += 1
        try:
            reading, reason = await self._ask(row), ""
        except RowFailed as failed:
            reading, reason = Reading(), failed.reason
        self.rows_under_way -= 1
        self.asker.cut_rows += row.cut
        cost = row.attempts, row.prompt_tokens, row.completion_tokens
        return Answer(question.key, reading.level, reading.confidence, reason, reading.verdict, *cost)

    async def _ask(self, row: Row) -> Reading:
        while True:
            pause = 0.0
            async with self.limit:
                if self.stopped:
                    raise self.stopped
                seconds = self._seconds_for(row)
                body, row.cut = self.asker.body(row.question, row.budget, row.unread)
                sent_at = time.monotonic()
                row.question.on_ask()
                row.attempts += 1
                try:
                    payload = await self.endpoint.post(self.asker.path, body, seconds)
                    return self._read(row, body, payload)
                except AttemptFailed as error:
                    pause = self._failed(row, error, body, sent_at)
                except Unusable as unusable:
                    self._unreadable(row, unusable.reason)
                finally:
                    row.seconds += time.monotonic() - sent_at
            row.seconds += pause
            await asyncio.sleep(pause)

    def _seconds_for(self, row: Row) -> float:
        """How long the next attempt may take."""
        left = self.policy.row_seconds - row.seconds
        if left <= 0 and self._row_is_to_blame(row):
            raise RowFailed(DEADLINE)
        # Past its deadline, a row is only asked on in an outage, which is not its fault.
        return min(self.policy.attempt_seconds, left if left > 0 else float("inf"))

    def _read(self, row: Row, body: dict[str, Any], payload: dict[str, Any]) -> Reading:
        self.limit.succeeded()
        self.last_reply, self.failing_since = time.monotonic(), None
        row.prompt_tokens += _count(payload, "prompt_tokens", "input_tokens")
        row.completion_tokens += _count(payload, "completion_tokens")
        reading = self.asker.read(body, payload, row.question)
        self.unusable_rows = self.rejected_rows = 0
        return reading

    def _failed(self, row: Row, error: AttemptFailed, body: dict[str, Any], sent_at: float) -> float:
        """Returns the seconds to wait before asking again."""
        if error.kind == "rejected":
            self._rejected(row, str(error), body)
            return 0.0
        if error.kind in ("throttled", "slow"):  # perhaps more is asked at once than the server can do
            self.limit.throttled(sent_at, error.retry_after)
        self._check_stall(str(error), error.retry_after or 0.0)
        if error.kind == "throttled":  # that costs the row nothing
            return 0.0
        row.failing_since = row.failing_since or sent_at
        row.failures += 1
        if row.failures >= self.policy.max_failures and self._row_is_to_blame(row):
            raise RowFailed(SERVER_ERROR)
        return self.policy.pause(row.failures)

    def _rejected(self, row: Row, message: str, body: dict[str, Any]) -> None:
        """The server refuses the request: the next one looks different, or there is none."""
        if row.adaptations < MAX_ADAPTATIONS:
            row.adaptations += 1
            # What servers say of a prompt that is too long has no one form: a row that is not short is shown shorter anyway.
            adapted, shorter = lambda: self.asker.adapt(body, message), lambda: self._shown_shorter(row, body)
            if any(change() for change in ((shorter, adapted) if is_too_long(message) else (adapted, shorter))):
                return
        self.rejected_rows += 1
        if self.rejected_rows >= (self.policy.max_unusable_rows if self.last_reply else FIRST_REJECTIONS):
            raise UserError(
                f"the server refuses every request: {message}; check the name of the model and --extra-body"
            )
        raise RowFailed(REJECTED)

    def _shown_shorter(self, row: Row, body: dict[str, Any]) -> bool:
        """Halve what is shown of a row until something of it is left out; False where too little would be left."""
        while (half := row.budget.half()) is not None:
            row.budget = half
            if self.asker.body(row.question, row.budget, row.unread)[0] != body:
                return True
        return False

    def _unreadable(self, row: Row, reason: str) -> None:
        """A reply came, but without a level or verdict: the server works, whatever the model says."""
        row.unread += 1
        if row.unread < self.policy.max_readings:
            return
        self.unusable_rows += 1
        if self.unusable_rows >= self.policy.max_unusable_rows:
            raise UserError(
                f"{self.unusable_rows} rows in a row got no usable reply from the model (last reason: {reason}); "
                "choose a model that follows the format; give truncated replies more room with --max_answer_tokens 4096"
            )
        raise RowFailed(reason)

    def _check_stall(self, message: str, wait: float) -> None:
        """Stop the run when the server has failed for long, or asks for a long wait."""
        now, longest = time.monotonic(), self.policy.stall_seconds
        if self.failing_since is None:
            self.failing_since = now
            logger.warning("the server does not answer as it should (%s); trying again", message)
        seconds = now - self.failing_since
        if wait > longest:
            reason = f"the server asks to wait {wait:.0f} s ({message})"
        elif seconds + wait > longest:
            reason = f"no request succeeded for {seconds:.0f} s (last failure: {message})"
        else:
            return
        raise UserError(f"{reason}; check the server, then run the same command again: finished answers are kept")

    def _row_is_to_blame(self, row: Row) -> bool:
        """Others get replies and this row does not, or it is the only one left. In an outage no row is given up."""
        return self.last_reply > row.failing_since or (self.rows_under_way == 1 and self.last_reply > 0)


def _count(payload: dict[str, Any], *names: str) -> int:
    """Tokens as the server counts them, under one of these names."""
    usage = payload.get("usage")
    counts = [usage.get(name) for name in names] if isinstance(usage, dict) else []
    return next((count for count in counts if type(count) is int and count > 0), 0)
