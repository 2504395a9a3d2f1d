"""Where rewards come from: a WildReward model on this machine, or a reward server behind a URL.

A server is asked with `POST {"query": [text, …]}` and answers `{"rewards": [number or null, …]}`, the convention of
OpenRLHF. With `request="messages"` the body is `{"messages": [[{"role", "content"}, …], …]}` instead.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import random
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING, Any

from wildreward.errors import UserError
from wildreward.reward_text import render_reward_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from wildreward.scorer import RewardScorer

logger = logging.getLogger(__name__)

Conversation = list[dict[str, Any]]

TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)
TOKEN_VARIABLE = "WILDREWARD_REWARD_TOKEN"


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
        return source.split("://", 1)[1].split("/", 1)[0].rsplit("@", 1)[-1]
    return os.path.basename(source.rstrip("/")) or source


def check_address(url: str) -> None:
    """Make sure that no user name or password is in an address: it would end up in messages, and was never sent.

    Raises:
        RewardSourceError: there is one.
    """
    if re.match(r"[a-z]+://[^/?#]*@", url, re.IGNORECASE):
        raise RewardSourceError(
            f"the address of the reward server {source_name(url)} holds a user name or password; take it out, and put "
            f"the server's bearer token into the environment variable {TOKEN_VARIABLE}"
        )


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

    Connection errors, time-outs, broken answers and the statuses that pass are tried again with growing, jittered
    pauses (or the server's Retry-After) until `deadline`; any other status is an error at once. A bearer token is taken
    from the environment variable WILDREWARD_REWARD_TOKEN.

    Args:
        url: address of the server's scoring endpoint.
        request: "query" sends rendered texts, "messages" sends the messages themselves.
        tokenizer: renders the texts of "query" with its chat template (the policy's, for a server that expects that);
            by default the reward model's own input text is sent.
        batch_size: conversations a request.
        concurrency: requests at a time.
        timeout: seconds without a sign of the server after which an attempt counts as failed.
        deadline: seconds after the first failure of a request after which it is given up.

    Raises:
        RewardSourceError: an unknown `request`, or an address with a user name or password in it.
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
        self.url, self.request, self.tokenizer = url, request, tokenizer
        self.batch_size, self.concurrency = batch_size, concurrency
        self.timeout, self.deadline = timeout, deadline
        self._closing = threading.Event()

    def __call__(self, conversations: list[Conversation]) -> list[float | None]:
        batches = [
            conversations[start : start + self.batch_size] for start in range(0, len(conversations), self.batch_size)
        ]
        self._closing.clear()
        with ThreadPoolExecutor(self.concurrency) as pool:
            try:
                return [score for scores in pool.map(self._ask, batches) for score in scores]
            except RewardSourceError:
                self._closing.set()  # the other requests need not wait out their deadlines
                raise

    def _ask(self, conversations: list[Conversation]) -> list[float | None]:
        """Send one batch, again and again while that may help."""
        if self.request == "messages":
            body: dict[str, Any] = {"messages": conversations}
        else:
            body = {"query": [self._render(messages) for messages in conversations]}
        failed_at, attempt = None, 0
        while True:
            attempt += 1
            try:
                return _read_rewards(self._post(body), len(conversations))
            except _TransientError as error:
                pause = error.retry_after or min(30.0, 0.25 * 2**attempt) * random.uniform(0.5, 1.0)
                failed_at = failed_at or time.monotonic()
                waited = time.monotonic() - failed_at
                if waited + pause > self.deadline or self._closing.is_set():
                    raise RewardSourceError(
                        f"reward server {source_name(self.url)} gave no rewards in {attempt} attempts, "
                        f"{waited:.0f} s after the first failure ({error}); check that it runs and is reachable"
                    ) from error
                logger.warning("reward server: %s; attempt %d, next in %.1f s", error, attempt, pause)
                self._closing.wait(pause)

    def _post(self, body: dict[str, Any]) -> bytes:
        data = json.dumps(body).encode("utf-8")
        headers = {"Content-Type": "application/json"}
        if token := os.environ.get(TOKEN_VARIABLE):
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.url, data=data, headers=headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            with error:
                detail = _reason(error.read(100_000))
            message = f"HTTP {error.code} {detail}".strip()
            if error.code in TRANSIENT_STATUS:
                raise _TransientError(message, _seconds(error.headers.get("Retry-After"))) from error
            raise RewardSourceError(f"reward server {source_name(self.url)} refused the request: {message}") from error
        except (OSError, http.client.HTTPException) as error:
            raise _TransientError(f"{type(error).__name__}: {getattr(error, 'reason', None) or error}") from error

    def _render(self, messages: Conversation) -> str:
        if self.tokenizer is not None:
            return self.tokenizer.apply_chat_template(messages, tokenize=False)
        return render_reward_text(messages)


class _TransientError(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def _reason(body: bytes) -> str:
    """What a server says went wrong, in one line. The request it may echo stays out: it holds chat text."""
    try:
        said = json.loads(body)
    except ValueError:
        return " ".join(body.decode("utf-8", "replace").split())[:200]
    for name in ("error", "detail", "message"):
        said = said.get(name, said) if isinstance(said, dict) else said
    parts = said if isinstance(said, list) else [said]
    told = [part.get("msg") or part.get("message") if isinstance(part, dict) else part for part in parts]
    return "; ".join(text for text in told if isinstance(text, str))[:200]


def _seconds(retry_after: str | None) -> float | None:
    try:
        return min(300.0, max(0.0, float(retry_after))) if retry_after else None
    except ValueError:  # the date form
        return None


def _read_rewards(answer: bytes, expected: int) -> list[float | None]:
    """Parse `{"rewards": […]}`. An answer cut off on its way is tried again; a wrong shape or length is an error."""
    try:
        parsed = json.loads(answer)
    except ValueError as error:
        raise _TransientError("the answer is not JSON") from error
    rewards = parsed.get("rewards") if isinstance(parsed, dict) else None
    if isinstance(rewards, list) and rewards and all(isinstance(r, list) and len(r) == 1 for r in rewards):
        rewards = [r[0] for r in rewards]
    numbers = isinstance(rewards, list) and all(
        r is None or (isinstance(r, int | float) and not isinstance(r, bool)) for r in rewards
    )
    if not numbers or len(rewards) != expected:
        found = f"{len(rewards)} rewards" if numbers else repr(parsed)[:200]
        raise RewardSourceError(
            f'the reward server answered {found}; expected {{"rewards": […]}} with {expected} numbers'
        )
    return rewards
