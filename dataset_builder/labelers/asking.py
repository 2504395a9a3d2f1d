"""Put many questions to one server at once, and get an answer for each, or the reason why there is none.

`Asker.answer_all` is an ordinary iterator over ordinary iterators: an event loop in a thread of its own does the
waiting. Requests are pulled only as there is room, answers come out as they finish, and at most `concurrency` requests
plus a small lead are pulled and not yet handed back: that is all a killed process can lose.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from wildreward.dataset_builder.labelers.base import Answer, Labeler, Request, Task
from wildreward.dataset_builder.labelers.endpoint import (
    Endpoint,
    Rejected,
    Throttled,
    Transient,
    check_address,
    check_api_key,
    load_openai,
)
from wildreward.dataset_builder.labelers.parsing import Reading, Unusable
from wildreward.dataset_builder.labelers.quoting import report_cut_rows
from wildreward.dataset_builder.labelers.rate import AdaptiveLimit
from wildreward.dataset_builder.labelers.retries import GivenUp, Patience, Retries, Row
from wildreward.settings import check_least


class Form(Protocol):
    """How a question is put to a server and its reply read; one for each kind of endpoint.

    Attributes:
        path: below the server's base URL.
        cut_rows: questions that showed a conversation in part only.
    """

    path: str
    cut_rows: int

    def body(self, request: Request, asked_before: int) -> dict[str, Any]:
        """The JSON to send; `asked_before` counts replies to this request that could not be read."""

    def read(self, sent: dict[str, Any], payload: Any, task: Task) -> Reading:
        """Read the reply to `sent`, or raise `Unusable`."""

    def tokens(self, payload: Any) -> tuple[int, int]:
        """Prompt and completion tokens of a reply, as the server counts them."""

    def adapt(self, sent: dict[str, Any], message: str) -> bool:
        """After a rejection: leave out what this server does not take. True when sending again makes sense."""


@dataclass
class Usage:
    """What has been used so far, as the server counts it."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add_tokens(self, prompt_tokens: int, completion_tokens: int) -> None:
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens


class EndpointLabeler(Labeler):
    """What labelers behind a server have in common: the connection, the retries, the count of what was asked.

    Args:
        form: how questions are put and replies read.
        base_url: the server, up to and including `/v1`; None for OpenAI's own.
        api_key_env: environment variable that holds the key, where the server wants one.
        concurrency: the most requests under way at once.
        patience: see `Patience`.
    """

    paid = True
    judges_refusals = True

    def __init__(
        self, form: Form, base_url: str | None, api_key_env: str, concurrency: int, patience: Patience | None
    ) -> None:
        check_least(("concurrency", concurrency, 1))
        load_openai()
        check_address(base_url)
        check_api_key(base_url, api_key_env)
        self.form = form
        self._asker = Asker(
            lambda: Endpoint(base_url, api_key_env, concurrency), form, concurrency, patience or Patience()
        )

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return self._asker.usage

    def label(self, request: Request) -> Answer:
        return next(self.label_many([request]))

    def label_many(self, requests: Iterable[Request]) -> Iterator[Answer]:
        return self._asker.answer_all(requests)

    def close(self) -> None:
        report_cut_rows(self.form.cut_rows)


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
        retries = Retries(self.patience, AdaptiveLimit(self.concurrency))
        async with self.open_endpoint() as endpoint, asyncio.TaskGroup() as workers:

            async def worker() -> None:
                while True:
                    row = Row(await inbox.get())
                    retries.rows_under_way += 1
                    try:
                        answer = row.answer(await self._ask(endpoint, retries, row))
                    except GivenUp as given_up:
                        answer = row.answer(None, given_up.reason)
                    retries.rows_under_way -= 1
                    deliver(answer)

            for _ in range(self.concurrency):
                workers.create_task(worker())

    async def _ask(self, endpoint: Endpoint, retries: Retries, row: Row) -> Reading:
        """Ask until there is an answer, or raise what `Retries` raises."""
        while True:
            body = self.form.body(row.request, row.unread)
            seconds = retries.seconds_for(row)
            pause = 0.0
            sent_at = await retries.limit.acquire()
            try:
                row.request.on_ask()
                row.attempts += 1
                payload = await endpoint.post(self.form.path, body, seconds)
            except Throttled as error:
                retries.throttled(error, sent_at)
            except Transient as error:
                pause = retries.failed(row, error, sent_at)
            except Rejected as error:
                retries.rejected(row, error, adapted=self.form.adapt(body, str(error)))
            else:
                retries.limit.succeeded()
                self._count(row, payload)
                try:
                    reading = self.form.read(body, payload, row.request.task)
                except Unusable as error:
                    retries.unreadable(row, error.reason)
                else:
                    retries.answered()
                    return reading
            finally:
                retries.limit.release()
                row.seconds += time.monotonic() - sent_at
            row.seconds += pause
            await asyncio.sleep(pause)

    def _count(self, row: Row, payload: Any) -> None:
        prompt_tokens, completion_tokens = self.form.tokens(payload)
        row.prompt_tokens += prompt_tokens
        row.completion_tokens += completion_tokens
        self.usage.add_tokens(prompt_tokens, completion_tokens)


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
