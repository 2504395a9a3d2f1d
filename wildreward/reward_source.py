"""Where rewards come from: a WildReward model on this machine, or a reward server behind a URL.

A server is asked with `POST {"query": [text, …]}` and answers `{"rewards": [number or null, …]}`, the convention of
OpenRLHF. With `request="messages"` the body is `{"messages": [[{"role", "content"}, …], …]}` instead.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from wildreward.errors import UserError, described
from wildreward.reward_text import render_reward_text
from wildreward.secrecy import is_address, masked, public_address, secrets_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from wildreward.scorer import RewardScorer

logger = logging.getLogger(__name__)

Conversation = list[dict[str, Any]]

SHORTEST_PAUSE = 0.1  # seconds, whatever Retry-After says
TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)
TOKEN_VARIABLE = "WILDREWARD_REWARD_TOKEN"
ERROR_BYTES = 100_000
"""How much of an error's body is read."""
SHOWN = 200
"""Characters of what a server says that a message repeats."""


class RewardSourceError(UserError):
    """The reward source cannot be reached, or answers with something that is not a reward."""


def is_url(source: str) -> bool:
    """Whether a reward source is a server rather than a model."""
    return source.lower().startswith(("http://", "https://"))


def source_name(source: Any) -> str:
    """A short name for logs: the host of a URL, the last part of a path or id, the name of a function."""
    if not isinstance(source, str):
        return getattr(source, "__name__", type(source).__name__)
    if is_url(source):
        return public_address(source).split("://", 1)[1]
    return os.path.basename(source.rstrip("/")) or source


def check_address(url: str) -> None:
    """Make sure that an address can be asked, and holds no user name or password: these were never sent.

    Raises:
        RewardSourceError: neither; what may be a key is not repeated.
    """
    try:
        valid = is_address(url) and httpx2.URL(url).host
    except httpx2.InvalidURL:
        valid = False
    if not valid:
        raise RewardSourceError(
            "the address of the reward server cannot be read; expected http(s)://HOST[:PORT]/PATH without spaces or line "
            "breaks, and a port up to 65535"
        )
    if "@" in urlsplit(url).netloc:
        raise RewardSourceError(
            f"the address of the reward server {source_name(url)} holds a user name or password; take it out, and put "
            f"the server's bearer token into the environment variable {TOKEN_VARIABLE}"
        )


def bearer_token() -> str | None:
    """The token that reward servers are sent, None where there is none.

    Raises:
        RewardSourceError: it cannot be sent in a header.
    """
    token = os.environ.get(TOKEN_VARIABLE) or None
    if token and (wrong := re.search(r"[^!-~]", token)):
        raise RewardSourceError(
            f"character {wrong.start() + 1} of {len(token)} in the environment variable {TOKEN_VARIABLE} cannot be sent; "
            "expected the token alone: ASCII letters, digits and signs, no spaces or line breaks"
        )
    return token


def open_source(source: str, **options: Any) -> Callable[[list[Conversation]], Sequence[float | None]]:
    """Return the scoring function of a model folder or id, or of a URL.

    Args:
        source: folder, Hub id, or `http(s)://` URL.
        options: for a URL those of `RemoteReward`; for a model those of `RewardScorer.from_pretrained`.

    Raises:
        UserError: the model cannot be loaded.
    """
    if is_url(source):
        return RemoteReward(source, **options)
    from wildreward.bundled import resolve
    from wildreward.scorer import RewardScorer

    return LocalReward(RewardScorer.from_pretrained(resolve(source), **options))


class LocalReward:
    """Scores with a `RewardScorer`, the conversations that share a prompt together.

    Raises:
        RewardSourceError: on a call, when the model's scores are not finite or a conversation cannot be rendered.
    """

    def __init__(self, scorer: RewardScorer) -> None:
        self.scorer = scorer

    def __call__(self, conversations: list[Conversation]) -> list[float | None]:
        runs = [(prompt, [c[-1:] for c in run]) for prompt, run in groupby(conversations, key=lambda c: c[:-1])]
        try:
            return [score for scores in self.scorer.score_groups(runs) for score in scores]
        except ValueError as error:
            raise RewardSourceError(f"the reward model could not score a batch: {error}") from error


class RemoteReward:
    """Asks a reward server, in batches, several at a time, with retries.

    Connection errors, time-outs, answers cut off on their way and the statuses that pass are tried again with growing,
    jittered pauses (or the server's Retry-After) until `deadline`; every other answer that is no reward is an error at
    once. Redirects are not followed: the bearer token, taken from the environment variable WILDREWARD_REWARD_TOKEN, is
    for this address alone. The proxies of the environment (HTTPS_PROXY, NO_PROXY …) are used, except for this machine.

    Args:
        url: address of the server's scoring endpoint.
        request: "query" sends rendered texts, "messages" sends the messages themselves.
        tokenizer: renders the texts of "query" with its chat template (the policy's, for a server that expects that);
            by default the reward model's own input text is sent.
        batch_size: conversations a request.
        concurrency: requests at a time.
        timeout: seconds until an attempt must have its whole answer.
        deadline: seconds until a batch must have its rewards, all attempts and pauses included.

    Raises:
        RewardSourceError: an unknown `request`, or an address, token or proxy that cannot be used. On a call: the server
            gave no rewards in time, or refused, or answered with something else.
    """

    def __init__(
        self,
        url: str,
        request: str = "query",
        tokenizer: PreTrainedTokenizerBase | None = None,
        batch_size: int = 64,
        concurrency: int = 4,
        timeout: float = 60.0,
        deadline: float = 300.0,
    ) -> None:
        if request not in ("query", "messages"):
            raise RewardSourceError(f"request is {request!r}; expected 'query' or 'messages'")
        check_address(url)
        bearer_token()
        self.url, self.request, self.tokenizer = url, request, tokenizer
        self.batch_size, self.concurrency = batch_size, concurrency
        self.timeout, self.deadline = timeout, deadline
        self._proxy = _proxy_of(httpx2.URL(url))
        _transport(os.getpid(), self._proxy)

    def __call__(self, conversations: list[Conversation]) -> list[float | None]:
        starts = range(0, len(conversations), self.batch_size)
        batches = [conversations[start : start + self.batch_size] for start in starts]
        requests = [(self._body(batch), len(batch)) for batch in batches]
        asked = asyncio.run_coroutine_threadsafe(self._ask_all(requests), _event_loop(os.getpid()))
        try:
            return [score for scores in asked.result() for score in scores]
        finally:
            asked.cancel()  # where the wait was interrupted, nothing is asked any more

    def _body(self, conversations: list[Conversation]) -> bytes:
        if self.request == "messages":
            return json.dumps({"messages": conversations}).encode()
        return json.dumps({"query": [self._render(messages) for messages in conversations]}).encode()

    async def _ask_all(self, requests: list[tuple[bytes, int]]) -> list[list[float | None]]:
        slots = asyncio.Semaphore(self.concurrency)

        async def ask(body: bytes, expected: int) -> list[float | None]:
            async with slots:
                return await self._ask(body, expected)

        try:
            async with asyncio.TaskGroup() as group:  # the first error ends the other requests
                tasks = [group.create_task(ask(*request)) for request in requests]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _ask(self, body: bytes, expected: int) -> list[float | None]:
        """Send one batch, again and again while that may help."""
        started, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            seconds = min(self.timeout, started + self.deadline - time.monotonic())
            try:
                return self._read_rewards(await self._post(body, seconds, expected), expected)
            except _TransientError as error:
                pause = min(30.0, 0.25 * 2**attempt) * random.uniform(0.5, 1.0)
                if error.retry_after is not None:
                    pause = max(SHORTEST_PAUSE, error.retry_after)
                waited = time.monotonic() - started
                if waited + pause + min(1.0, self.deadline / 10) > self.deadline:  # no time left for another attempt
                    raise RewardSourceError(
                        f"reward server {source_name(self.url)} gave no rewards in {attempt} attempts and {waited:.0f} s "
                        f"({error}); check that it runs and is reachable"
                    ) from None
                logger.warning("reward server: %s; attempt %d, next in %.1f s", error, attempt, pause)
            await asyncio.sleep(pause)

    async def _post(self, body: bytes, seconds: float, expected: int) -> bytes:
        """One attempt: the body of an answer whose status is good."""
        # Compressed answers are not asked for: they would be small to send and large to hold.
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "wildreward"}
        if token := bearer_token():
            headers["Authorization"] = f"Bearer {token}"
        request = httpx2.Request("POST", self.url, headers=headers, content=body)
        try:
            async with asyncio.timeout(seconds):
                response = await _transport(os.getpid(), self._proxy).handle_async_request(request)
                try:
                    return await self._read(response, 1_000_000 + 1_000 * expected)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise _TransientError(f"no complete answer in {seconds:.3g} s") from None
        except httpx2.TransportError as error:
            reason = self._shown(str(_root(error)))
            raise _TransientError(f"{type(error).__name__}: {reason}") from None  # it may hold what the server said

    async def _read(self, response: httpx2.Response, limit: int) -> bytes:
        """The body of an answer, at most `limit` bytes of it; a bad status is an error."""
        status, good = response.status_code, 200 <= response.status_code < 300
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            if len(body) > (limit if good else ERROR_BYTES):
                break
        if good and len(body) > limit:
            raise self._refusal(f"sent more than {limit} bytes for one batch; expected only its rewards")
        if good:
            return bytes(body)
        if 300 <= status < 400:
            raise self._refusal(
                f"answered with a redirect (HTTP {status}), which is not followed: the bearer token is for this address "
                "alone; give the address that it leads to"
            )
        message = f"HTTP {status} {self._shown(_reason(bytes(body[:ERROR_BYTES])))}".strip()
        if status in TRANSIENT_STATUS:
            raise _TransientError(message, _seconds(response.headers.get("Retry-After")))
        raise self._refusal(f"refused the request: {message}")

    def _read_rewards(self, answer: bytes, expected: int) -> list[float | None]:
        """Parse `{"rewards": […]}`. An answer cut off on its way is tried again; anything else that is no reward is an
        error.
        """
        wanted = f'expected {{"rewards": […]}} with {expected} numbers'
        try:
            parsed = json.loads(answer, parse_int=float)  # of thousands of digits: infinite
        except RecursionError:
            raise self._refusal(f"answered with lists or objects nested too deeply; {wanted}") from None
        except ValueError:
            if answer.lstrip()[:1] in (b"", b"{", b"["):
                raise _TransientError("the answer is not JSON, or not all of it") from None
            raise self._refusal(f"answered {self._shown(answer.decode('utf-8', 'replace'))}; {wanted}") from None
        rewards = parsed.get("rewards") if isinstance(parsed, dict) else None
        if not isinstance(rewards, list):
            told = "" if isinstance(parsed, list) else _told(parsed)
            raise self._refusal(f"answered {self._shown(told or described(parsed))}; {wanted}")
        if len(rewards) != expected:
            raise self._refusal(f"answered {len(rewards)} rewards; {wanted}")
        rewards = [r[0] if isinstance(r, list) and len(r) == 1 else r for r in rewards]
        for i, reward in enumerate(rewards):
            if reward is not None and not (isinstance(reward, float) and math.isfinite(reward)):
                found = repr(self._shown(reward)) if isinstance(reward, str) else self._shown(described(reward))
                raise self._refusal(
                    f"returned {found} for completion {i} of a batch of {expected}; expected a finite number, or null "
                    "for what cannot be scored"
                )
        return rewards

    def _refusal(self, what: str) -> RewardSourceError:
        return RewardSourceError(f"reward server {source_name(self.url)} {what}")

    def _shown(self, text: str) -> str:
        """What a server says: one short line, without the token, and without what may be a key in the address."""
        text = masked(text, bearer_token(), *secrets_of(self.url))
        line = " ".join(text.split())[:SHOWN]
        return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)

    def _render(self, messages: Conversation) -> str:
        if self.tokenizer is not None:
            return self.tokenizer.apply_chat_template(messages, tokenize=False)
        return render_reward_text(messages)


class _TransientError(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@cache
def _event_loop(process: int) -> asyncio.AbstractEventLoop:
    """A loop in a thread of its own: a notebook's thread runs one already. A forked process needs another."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="reward-servers", daemon=True).start()
    return loop


@cache
def _transport(process: int, proxy: str | None) -> httpx2.AsyncHTTPTransport:
    """Connections, kept alive between requests. Unlike a client, a transport logs no addresses and keeps no cookies.

    Raises:
        RewardSourceError: there cannot be such a proxy.
    """
    try:
        return httpx2.AsyncHTTPTransport(proxy=proxy, limits=httpx2.Limits())
    except (ImportError, ValueError, httpx2.InvalidURL) as error:
        raise RewardSourceError(
            "the proxy that the environment names for the reward server cannot be used; expected http://HOST:PORT (for "
            "socks5://, pip install 'httpx2[socks]'), or the server's host in NO_PROXY"
        ) from error


def _proxy_of(address: httpx2.URL) -> str | None:
    """The proxy that the environment names for an address; none for this machine, which a proxy would not find."""
    if re.fullmatch(r"localhost|127\..*|::1", address.host) or proxy_bypass(address.netloc.decode()):
        return None
    proxies = getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _root(error: BaseException) -> BaseException:
    """What an error began with: libraries wrap a refused connection several times."""
    return _root(error.__cause__) if error.__cause__ else error


def _reason(body: bytes) -> str:
    """What the body of an error says."""
    try:
        return _told(json.loads(body, parse_int=float))
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")


def _told(said: Any) -> str:
    """What went wrong by an error's JSON. The request that it may echo stays out: it holds chat text."""
    for name in ("error", "detail", "message"):
        said = said.get(name, said) if isinstance(said, dict) else said
    parts = said if isinstance(said, list) else [said]
    told = [part.get("msg") or part.get("message") if isinstance(part, dict) else part for part in parts]
    return "; ".join(text for text in told if isinstance(text, str))


def _seconds(retry_after: str | None) -> float | None:
    try:
        return min(300.0, max(0.0, float(retry_after))) if retry_after else None
    except ValueError:  # the date form
        return None
