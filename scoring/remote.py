"""Servers behind URLs as a `Scorer`: batches spread over them, asked elsewhere where one fails, until a deadline.

What is sent and what is read in an answer is a `WireFormat`; one attempt is an `Endpoint`'s.
"""

import asyncio
import json
import logging
import math
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from wildreward.common.chat import read_all
from wildreward.common.errors import UserError, described
from wildreward.common.hashing import text_sha256
from wildreward.common.http import error_text
from wildreward.common.names import public_name
from wildreward.common.settings import check_least
from wildreward.scoring.endpoint import Endpoint, FormRefused, TransientError
from wildreward.scoring.protocol import Conversation, RewardSourceError, Scored, kept
from wildreward.scoring.reward_text import render_reward_text
from wildreward.scoring.wire_formats import WireFormat, formats_of

logger = logging.getLogger(__name__)

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 300.0  # seconds, whatever Retry-After says
ROOM_SECONDS = 0.02  # between two looks for a server with room
Row = list[float] | None
"""The numbers that a server gives for a conversation: its score and level distribution, or logits; None: it cannot say."""


class Server(Endpoint):
    """An address with what is known of the server there: its format, how much is under way, how long it is left alone.

    After a failure it is left alone for a growing, jittered pause, or as long as it says; then one request tries it, and
    the first answer opens it again.
    """

    def __init__(self, url: str, concurrency: int) -> None:
        super().__init__(url)
        self.formats, self.concurrency = formats_of(url), concurrency
        self.under_way = self.failures = 0
        self.rests_until = self.last_failure = self.last_asked = 0.0

    def has_room(self) -> bool:
        most = 1 if self.failures else self.concurrency
        return self.under_way < most and self.rests_until <= time.monotonic()

    async def ask(self, inputs: dict[str, list], seconds: float) -> list[Row]:
        """One attempt: a row for each of the inputs. Of several formats the one that the server takes is kept.

        Raises:
            TransientError, RewardSourceError: see `Endpoint.post`.
        """
        self.under_way += 1
        sent = self.last_asked = time.monotonic()
        try:
            found = await self._ask(inputs, seconds)
        except TransientError as error:
            self._leave_alone(sent, error.retry_after)
            raise
        finally:
            self.under_way -= 1
        if sent > self.last_failure:
            self.failures, self.rests_until = 0, 0.0
        return found

    async def _ask(self, inputs: dict[str, list], seconds: float) -> list[Row]:
        refused: list[str] = []
        for one in self.formats:
            content = inputs[one.inputs]
            body = json.dumps(one.body(content)).encode()
            try:
                answer = await self.post(body, seconds, _longest_answer(one, content))
            except FormRefused as error:
                refused.append(f"{error} (asked as {one.server})" if len(self.formats) > 1 else str(error))
                continue
            self.formats = (one,)
            return self._read_rows(answer, one, len(content))
        raise RewardSourceError("; ".join(refused))

    def _leave_alone(self, sent: float, retry_after: float | None) -> None:
        if sent > self.last_failure:  # others that were sent before a failure belong to it
            self.failures += 1
        self.last_failure = time.monotonic()
        pause = min(30.0, 0.25 * 2**self.failures) * random.uniform(0.5, 1.0)
        if retry_after is not None:
            pause = min(LONGEST_PAUSE, max(SHORTEST_PAUSE, retry_after))
        self.rests_until = max(self.rests_until, self.last_failure + pause)

    def _read_rows(self, answer: bytes, one: WireFormat, expected: int) -> list[Row]:
        """Parse an answer. One cut off on its way is tried again; anything else that is no reward is an error."""
        wanted = f"expected {one.answer} with {expected} numbers"
        if one.inputs != "reward_text":
            wanted = f"expected {one.answer} of {one.server} for {expected} conversations"
        try:
            parsed = json.loads(answer, parse_int=float)  # of thousands of digits: infinite
        except RecursionError:
            raise self.refusal(f"answered with lists or objects nested too deeply; {wanted}") from None
        except ValueError:
            if answer.lstrip()[:1] in (b"", b"{", b"["):
                raise TransientError("the answer is not JSON, or not all of it") from None
            raise self.refusal(f"answered {self.shown(answer.decode('utf-8', 'replace'))}; {wanted}") from None
        try:
            rows = one.read(parsed)
        except (KeyError, IndexError, TypeError, ValueError):
            rows = None
        if not isinstance(rows, list):
            told = "" if isinstance(parsed, list) else error_text(parsed)
            raise self.refusal(f"answered {self.shown(told or described(parsed))}; {wanted}")
        if len(rows) != expected:
            raise self.refusal(f"answered {len(rows)} rewards; {wanted}")
        return [self._read_row(row, i, expected, one) for i, row in enumerate(rows)]

    def _read_row(self, row: Any, i: int, expected: int, one: WireFormat) -> Row:
        numbers = row if isinstance(row, list) else [row]
        if row is None and not one.reads_logits:
            return None
        several = len(numbers) > 1 and one.inputs == "reward_text"
        if not numbers or several or not all(map(_is_finite, numbers)):
            wrong = row if several or not numbers else next(n for n in numbers if not _is_finite(n))
            found = repr(self.shown(wrong)) if isinstance(wrong, str) else self.shown(described(wrong))
            raise self.refusal(
                f"returned {found} for completion {i} of a batch of {expected}; expected a finite number, or null "
                "for what cannot be scored"
            )
        return numbers


@dataclass(frozen=True)
class Served:
    """The model behind the URLs, without its weights.

    Attributes:
        name: folder or Hub id.
        tokenizer: its chat template renders the texts of OpenRLHF's form; without one they are the reward model's own input.
        classifier: what engines are sent, and what their numbers mean.
        revision: commit of a Hub id.
    """

    name: str
    tokenizer: Any
    classifier: Any = None
    revision: str | None = None


class RemoteScorer:
    """Asks reward servers, in batches, several at a time.

    Connection errors, time-outs, answers cut off on their way and the statuses that pass are tried again, on another server
    where there is one, until `deadline`; every other answer that is no reward is an error at once. The bearer token is taken
    from the environment variable WILDREWARD_REWARD_TOKEN.

    Args:
        urls: address of a scoring endpoint, or of several that serve the same model; the path says how it is asked, see
            `wire_formats`.
        served: the model that answers; needed for vLLM, SGLang and TEI.
        batch_size: conversations a request.
        concurrency: requests at a time to one server.
        timeout: seconds until an attempt must have its whole answer.
        deadline: seconds until a batch must have its rewards, all attempts and pauses included.
        keep_reasoning: send an answer's reasoning, too; see `common.chat`.

    Raises:
        UserError: an address, token or proxy that cannot be used, or no `served` where it is needed. On a call
            `RewardSourceError`: no server gave rewards in time, or one refused, or answered with something else.
    """

    kind = "remote"
    weights = None

    def __init__(
        self,
        urls: str | Sequence[str],
        served: Served | None = None,
        batch_size: int = 64,
        concurrency: int = 4,
        timeout: float = 60.0,
        deadline: float = 300.0,
        keep_reasoning: bool = False,
    ) -> None:
        check_least(("batch_size", batch_size, 1), ("concurrency", concurrency, 1))
        urls = [urls] if isinstance(urls, str) else list(dict.fromkeys(urls))
        self.servers = [Server(url, concurrency) for url in urls]
        self.batch_size, self.timeout, self.deadline = batch_size, timeout, deadline
        self.keep_reasoning = keep_reasoning
        self.name = ", ".join(server.name for server in self.servers)
        formats = [one for server in self.servers for one in server.formats]
        self.inputs = {one.inputs for one in formats}
        engine = next((one.server for one in formats if one.reads_logits), None)
        if engine and (served is None or served.classifier is None):
            raise UserError(
                f"{self.name} is asked as {engine}, with the input of the model that it serves; say which by --served-model "
                "FOLDER_OR_ID: its tokenizer, its template and how its answers are read come from there"
            )
        self.tokenizer = served and served.tokenizer
        self.classifier = served and served.classifier
        self.revision, self.num_levels = served and served.revision, self.classifier and self.classifier.num_levels
        self.settings: dict[str, Any] = {"served_model": served and public_name(served.name)}
        self.settings |= kept(keep_reasoning)
        if self.classifier is not None:
            self.settings["max_length"] = self.classifier.max_length
        self.fingerprint = text_sha256(json.dumps([sorted(urls), self.settings, self._known_by()], sort_keys=True), 16)

    def _known_by(self) -> dict[str, Any]:
        template = None if self.tokenizer is None else self.tokenizer.chat_template
        return {"template": template} | ({} if self.classifier is None else self.classifier.known_by)

    def score(self, conversations: Sequence[Conversation]) -> list[Scored | None]:
        """See `Scorer`."""
        conversations = read_all(conversations, self.keep_reasoning)
        inputs = {kind: self._inputs(kind, conversations) for kind in self.inputs}
        starts = range(0, len(conversations), self.batch_size)
        batches = [
            {kind: content[start : start + self.batch_size] for kind, content in inputs.items()} for start in starts
        ]
        asked = asyncio.run_coroutine_threadsafe(self._ask_all(batches), _event_loop(os.getpid()))
        try:
            rows = [row for found in asked.result() for row in found]
        finally:
            asked.cancel()  # where the wait was interrupted, nothing is asked any more
        if self.classifier is not None and rows:
            return list(self.classifier.scored(self._check_labels(rows)))
        return [None if row is None else Scored(row[0], tuple(row[1:]) or None) for row in rows]

    def _inputs(self, kind: str, conversations: Sequence[Conversation]) -> list:
        """What a server that takes inputs of this kind is sent for each conversation."""
        if kind == "messages":
            return [list(messages) for messages in conversations]
        if self.classifier is not None and kind != "reward_text":
            rows = self.classifier.encode(conversations)
            return rows if kind == "token_ids" else [self.classifier.as_text(ids, i) for i, ids in enumerate(rows)]
        if self.tokenizer is None:
            return [render_reward_text(list(messages)) for messages in conversations]
        return [self.tokenizer.apply_chat_template(list(messages), tokenize=False) for messages in conversations]

    def _check_labels(self, rows: list) -> list:
        labels = self.classifier.num_labels
        if wrong := next((row for row in rows if len(row) != labels), None):
            raise RewardSourceError(
                f"{self.name} answered {len(wrong)} numbers for a conversation; expected {labels}, the labels of "
                f"{self.settings['served_model']}: another model is served"
            )
        return rows

    async def _ask_all(self, batches: list[dict[str, list]]) -> list[list[Row]]:
        """Rows of every batch. Not more are under way than the servers take together."""
        if not any(server.has_room() for server in self.servers):  # what failed in an earlier call is tried at once
            for server in self.servers:
                server.rests_until = 0.0
        left, found = iter(enumerate(batches)), [[]] * len(batches)

        async def work(left: Iterator[tuple[int, dict[str, list]]]) -> None:
            for place, batch in left:
                found[place] = await self._ask(batch)

        try:
            async with asyncio.TaskGroup() as group:  # the first error ends the other requests
                for _ in range(min(len(batches), sum(server.concurrency for server in self.servers))):
                    group.create_task(work(left))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return found

    async def _ask(self, batch: dict[str, list]) -> list[Row]:
        """Send one batch, again and again while that may help."""
        server = await self._server_with_room()
        started, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            try:
                return await server.ask(batch, min(self.timeout, started + self.deadline - time.monotonic()))
            except TransientError as error:
                failure = error
            pause = max(0.0, min(one.rests_until for one in self.servers) - time.monotonic())
            self._check_time(started, pause, attempt, failure)
            logger.warning("reward server %s: %s; attempt %d, next in %.1f s", server.name, failure, attempt, pause)
            server = await self._server_with_room()
            self._check_time(started, 0.0, attempt, failure)  # the others may have been slow

    def _check_time(self, started: float, pause: float, attempt: int, failure: TransientError) -> None:
        """Give up where there is no time left for another attempt after a pause (`RewardSourceError`)."""
        waited = time.monotonic() - started
        if waited + pause + min(1.0, self.deadline / 10) > self.deadline:
            servers = "reward server" if len(self.servers) == 1 else "reward servers"
            raise RewardSourceError(
                f"{servers} {self.name} gave no rewards in {attempt} attempts and {waited:.0f} s ({failure}); check that "
                "it runs and is reachable"
            )

    async def _server_with_room(self) -> Server:
        """The one with the least under way of those that are not left alone, as soon as there is one."""
        while not (free := [server for server in self.servers if server.has_room()]):
            await asyncio.sleep(ROOM_SECONDS)
        return min(free, key=lambda server: (server.under_way, server.last_asked))


def _longest_answer(one: WireFormat, content: list) -> int:
    """Bytes of the largest sane answer: some classes have a number for each token."""
    return 1_000_000 + 1_000 * len(content) + (100 * sum(map(len, content)) if one.inputs == "token_ids" else 0)


def _is_finite(number: Any) -> bool:
    return isinstance(number, float) and math.isfinite(number)


@cache
def _event_loop(process: int) -> asyncio.AbstractEventLoop:
    """A loop in a thread of its own: a notebook's thread runs one already. A forked process needs another."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="reward-servers", daemon=True).start()
    return loop
