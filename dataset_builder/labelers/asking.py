"""Put many questions to one server at once, and get an answer for each, or the reason why there is none.

`Asker.answer_all` is an ordinary iterator over ordinary iterators: an event loop in a thread of its own does the
waiting. Requests are pulled only as there is room, answers come out as they finish, and at most `concurrency` requests
plus a small lead are pulled and not yet handed back: that is all a killed process can lose.
"""

import asyncio
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from wildreward.dataset_builder.labelers.base import Answer, Request, Task
from wildreward.dataset_builder.labelers.endpoint import Endpoint, Rejected, Throttled, TimedOut, Transient
from wildreward.dataset_builder.labelers.parsing import Reading, Unusable
from wildreward.dataset_builder.labelers.rate import AdaptiveLimit
from wildreward.errors import UserError

logger = logging.getLogger(__name__)

# Why a request has no answer although nothing is wrong with the reply: there was none.
SERVER_ERROR = "server_error"
DEADLINE = "deadline_exceeded"
REJECTED = "request_rejected"
# Another run may have more luck with these; the others would end the same way.
WORTH_ASKING_AGAIN = frozenset({SERVER_ERROR, DEADLINE})


class Form(Protocol):
    """How a question is put to a server and its reply read; one for each kind of endpoint."""

    path: str

    def body(self, request: Request, asked_before: int) -> dict[str, Any]:
        """The JSON to send; `asked_before` counts replies to this request that could not be read."""

    def read(self, payload: Any, task: Task) -> Reading:
        """Read the reply, or raise `Unusable`."""

    def tokens(self, payload: Any) -> tuple[int, int]:
        """Prompt and completion tokens of a reply, as the server counts them."""

    def adapt(self, sent: dict[str, Any], message: str) -> bool:
        """After a rejection: leave out what this server does not take. True when sending again makes sense."""


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


@dataclass
class Usage:
    """What has been asked so far. Token counts are the server's own."""

    requests: int = 0
    answers: int = 0
    unlabelled: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def cost(self, prompt_price: float, completion_price: float) -> float:
        """Money spent, with prices for a million tokens."""
        return (self.prompt_tokens * prompt_price + self.completion_tokens * completion_price) / 1e6


@dataclass
class _Row:
    """One request on its way to an answer."""

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


@dataclass
class _Health:
    """Whether the run as a whole gets anywhere; raises `UserError` when it has not for too long."""

    patience: Patience
    rows_under_way: int = 0
    last_answer: float = -1.0
    failing_since: float | None = None
    unusable_rows: int = 0
    rejected_rows: int = 0

    def answered(self) -> None:
        self.last_answer, self.failing_since = time.monotonic(), None
        self.unusable_rows = self.rejected_rows = 0

    def failed(self, message: str, wait: float = 0.0) -> None:
        now = time.monotonic()
        if self.failing_since is None:
            self.failing_since = now
            logger.warning("the labeling server does not answer as it should (%s); trying again", message)
        seconds = now - self.failing_since
        if wait > self.patience.stall_seconds:
            reason = f"the server asks to wait {wait:.0f} s ({message})"
        elif seconds + wait > self.patience.stall_seconds:
            reason = f"no request succeeded for {seconds:.0f} s (last failure: {message})"
        else:
            return
        raise UserError(f"{reason}; check the server, then run the same command again: finished answers are kept")

    def row_is_to_blame(self, row: _Row) -> bool:
        """Others get answers and this row does not, or it is the only one left. In an outage no row is given up."""
        return self.last_answer > row.failing_since or (self.rows_under_way == 1 and self.last_answer >= 0)

    def unusable(self, reason: str) -> None:
        self.unusable_rows += 1
        if self.unusable_rows >= self.patience.max_unusable_rows:
            raise UserError(
                f"{self.unusable_rows} rows in a row got no usable reply from the model (last reason: {reason}); "
                "choose a model that follows the format; give truncated replies more room with "
                "--extra-body '{\"max_tokens\": 4096}'"
            )

    def rejected(self, message: str) -> None:
        self.rejected_rows += 1
        first, later = 8, self.patience.max_unusable_rows
        if self.rejected_rows >= (first if self.last_answer < 0 else later):
            raise UserError(f"the server refuses every request: {message}; check --model and --extra-body")


@dataclass
class Asker:
    """Asks one server; see the module.

    Args:
        open_endpoint: makes the connection pool, used inside the event loop.
        form: how questions are put and replies read.
        concurrency: the most requests under way at once.
    """

    open_endpoint: Callable[[], Endpoint]
    form: Form
    concurrency: int
    patience: Patience = field(default_factory=Patience)
    usage: Usage = field(default_factory=Usage)

    def answer_all(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """One answer for each request, in the order they finish.

        Raises:
            UserError: going on is pointless; nothing is left running.
        """
        source = iter(requests)
        results: queue.SimpleQueue[Answer | BaseException] = queue.SimpleQueue()
        loop = _LoopThread(self._work, results)
        lead = max(2, self.concurrency // 8)
        outstanding, exhausted = 0, False
        try:
            while True:
                while not exhausted and outstanding < self.concurrency + lead:
                    request = next(source, None)
                    if request is None:
                        exhausted = True
                    else:
                        loop.put(request)
                        outstanding += 1
                if not outstanding:
                    return
                result = results.get()
                if isinstance(result, BaseException):
                    raise result
                outstanding -= 1
                yield result
        finally:
            loop.stop()

    async def _work(self, inbox: "asyncio.Queue[Request]", deliver: Callable[[Answer], None]) -> None:
        limit = AdaptiveLimit(self.concurrency)
        health = _Health(self.patience)
        async with self.open_endpoint() as endpoint, asyncio.TaskGroup() as workers:

            async def worker() -> None:
                while True:
                    request = await inbox.get()
                    health.rows_under_way += 1
                    answer = await self._answer(endpoint, limit, health, _Row(request))
                    health.rows_under_way -= 1
                    deliver(answer)

            for _ in range(self.concurrency):
                workers.create_task(worker())

    async def _answer(self, endpoint: Endpoint, limit: AdaptiveLimit, health: _Health, row: _Row) -> Answer:
        """Ask until there is an answer or a reason to give up."""
        while True:
            body = self.form.body(row.request, row.unread)
            remaining = self.patience.row_seconds - row.seconds
            if remaining <= 0 and health.row_is_to_blame(row):
                return self._unlabelled(row, DEADLINE)
            # Past its deadline, a row is only asked on in an outage, which is not its fault.
            seconds = min(self.patience.attempt_seconds, remaining if remaining > 0 else float("inf"))
            pause = 0.0
            sent_at = await limit.acquire()
            row.attempts += 1
            self.usage.requests += 1
            try:
                payload = await endpoint.post(self.form.path, body, seconds)
            except Throttled as error:
                limit.throttled(sent_at, error.retry_after)
                health.failed(str(error), error.retry_after or 0.0)
                continue
            except Transient as error:
                row.failing_since = row.failing_since if row.failures else sent_at
                row.failures += 1
                if isinstance(error, TimedOut):
                    limit.throttled(sent_at, retry_after=0.0)
                health.failed(str(error))
                if row.failures >= self.patience.max_failures and health.row_is_to_blame(row):
                    return self._unlabelled(row, SERVER_ERROR)
                pause = self._pause(row.failures)
            except Rejected as error:
                if row.adaptations < 6 and self.form.adapt(body, str(error)):
                    row.adaptations += 1
                    continue
                health.rejected(str(error))
                return self._unlabelled(row, REJECTED)
            else:
                limit.succeeded()
                if answer := self._read(row, payload, health):
                    return answer
            finally:
                limit.release()
                row.seconds += time.monotonic() - sent_at
            row.seconds += pause
            await asyncio.sleep(pause)

    def _read(self, row: _Row, payload: Any, health: _Health) -> Answer | None:
        """Read a reply; None when it is worth asking again."""
        prompt_tokens, completion_tokens = self.form.tokens(payload)
        row.prompt_tokens += prompt_tokens
        row.completion_tokens += completion_tokens
        self.usage.prompt_tokens += prompt_tokens
        self.usage.completion_tokens += completion_tokens
        try:
            reading = self.form.read(payload, row.request.task)
        except Unusable as error:
            row.unread += 1
            if row.unread < self.patience.max_readings:
                return None
            health.unusable(error.reason)
            return self._unlabelled(row, error.reason)
        health.answered()
        self.usage.answers += 1
        return row.answer(reading)

    def _unlabelled(self, row: _Row, reason: str) -> Answer:
        self.usage.answers += 1
        self.usage.unlabelled += 1
        return row.answer(None, reason)

    def _pause(self, failures: int) -> float:
        longest = min(self.patience.longest_pause, self.patience.first_pause * 2 ** (failures - 1))
        return random.uniform(0.5, 1.0) * longest


class _LoopThread:
    """An event loop in a thread, running `work(inbox, deliver)` until it fails or is stopped.

    A failure is put into `results` like an answer; the first of several that happened at once stands for all.
    """

    def __init__(
        self,
        work: Callable[["asyncio.Queue[Request]", Callable[[Answer], None]], Coroutine[Any, Any, None]],
        results: "queue.SimpleQueue[Answer | BaseException]",
    ) -> None:
        self._results = results
        self._inbox: asyncio.Queue[Request] = asyncio.Queue()
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(work(self._inbox, results.put))
        self._thread = threading.Thread(target=self._run, name="labeler", daemon=True)
        self._thread.start()

    def put(self, request: Request) -> None:
        self._call(self._inbox.put_nowait, request)

    def stop(self) -> None:
        """Cancel what is under way, close the connections and wait for the thread to end."""
        self._call(self._task.cancel)
        self._thread.join()

    def _call(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            if not self._loop.is_closed():  # a closed loop has put its failure into `results`
                raise

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # handed to the caller's thread, which raises it
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            self._results.put(error)
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
