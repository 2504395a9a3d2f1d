"""The server's HTTP side: what may be asked, and the answer to what may not.

    GET  /health      {"status": "ok", "model", "levels", "waiting"}
    POST /score       {"messages": [conversation, …]} → {"scores": [number, …], "level_probs": [[P(1), …, P(K)], …]}
    POST /get_reward  {"query": [text, …]} or {"messages": […]} → {"rewards": [number, …]}

A conversation is a list of `{"role", "content"}` that ends with the assistant's answer; a text is what
`wildreward.reward_text.render_reward_text` makes of one. Errors are `{"error": what}`: 401 without the token, 413 for more
than a request may hold, 422 for what cannot be scored, 429 (with Retry-After) when too much waits, 500 where the model
fails. Texts of chats are in no error and in no log.
"""

import asyncio
import hmac
import json
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wildreward.errors import described
from wildreward.evaluation.store import Message, read_messages
from wildreward.reward_text import parse_reward_text
from wildreward.scorer import RewardScorer
from wildreward.serving.batcher import Batcher, Overloaded

logger = logging.getLogger(__name__)

RETRY_AFTER = "1"  # seconds


@dataclass(frozen=True)
class Limits:
    """What a request, and all of them together, may hold."""

    max_body: int = 64 << 20
    """Bytes of a request's body."""
    max_conversations: int = 1024
    """Conversations of a request."""
    max_waiting: int = 4096
    """Conversations that may wait."""


def make_app(scorer: RewardScorer, name: str, limits: Limits | None = None, token: str | None = None) -> Starlette:
    """The server as an ASGI application.

    Args:
        scorer: the model; nobody else may use it meanwhile.
        name: of the model, as `/health` says it.
        limits: see `Limits`.
        token: what requests must bring as bearer token; None: nothing.
    """
    service = _Service(scorer, name, limits or Limits(), token)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        yield
        await run_in_threadpool(service.batcher.close)

    routes = [
        Route("/health", service.health, methods=["GET"]),
        Route("/score", service.guarded(service.score), methods=["POST"]),
        Route("/get_reward", service.guarded(service.get_reward), methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _told})


class _Service:
    def __init__(self, scorer: RewardScorer, name: str, limits: Limits, token: str | None) -> None:
        self.scorer, self.name, self.limits, self.token = scorer, name, limits, token
        self.batcher = Batcher(scorer.judge_ids, scorer.token_budget, limits.max_waiting)
        self.tokenizing = threading.Lock()  # a tokenizer is not made for several threads

    async def health(self, request: Request) -> Response:
        alive = self.batcher.alive
        state = {"status": "ok" if alive else "stopped", "model": self.name, "waiting": self.batcher.waiting}
        return JSONResponse(state | {"levels": self.scorer.model.config.num_levels}, 200 if alive else 503)

    async def score(self, body: dict[str, Any]) -> Response:
        rows = await self.judged(body, ("messages",))
        return JSONResponse({"scores": [row[0] for row in rows], "level_probs": [row[1:] for row in rows]})

    async def get_reward(self, body: dict[str, Any]) -> Response:
        rows = await self.judged(body, ("query", "messages"))
        return JSONResponse({"rewards": [row[0] for row in rows]})

    def guarded(self, answer: Callable[[dict[str, Any]], Awaitable[Response]]) -> Callable:
        """An endpoint that has checked who asks, that there is room, and that the body is an object."""

        async def endpoint(request: Request) -> Response:
            self.check_token(request)
            self.check_room(1)
            text = await self.body(request)
            return await answer(await run_in_threadpool(_parse, text))

        return endpoint

    def check_token(self, request: Request) -> None:
        given = request.headers.get("authorization", "")
        if self.token is not None and not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            raise HTTPException(401, "the bearer token is missing or wrong", {"WWW-Authenticate": "Bearer"})

    def check_room(self, count: int) -> None:
        try:
            self.batcher.check_room(count)
        except Overloaded as error:
            raise HTTPException(429, str(error), {"Retry-After": RETRY_AFTER}) from error

    async def body(self, request: Request) -> bytes:
        most, parts, size = self.limits.max_body, [], 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise HTTPException(413, f"the body is larger than {most} bytes; send fewer conversations at once")
            parts.append(part)
        return b"".join(parts)

    async def judged(self, body: dict[str, Any], keys: tuple[str, ...]) -> list[list[float]]:
        """`[score, P(1), …, P(K)]` for each conversation of a request."""
        given = [key for key in keys if key in body]
        if len(given) != 1 or not isinstance(body[given[0]], list):
            raise HTTPException(422, f"the body is {described(body)}; expected one list: {' or '.join(keys)}")
        items, most = body[given[0]], self.limits.max_conversations
        if len(items) > most:
            raise HTTPException(413, f"{len(items)} conversations; send at most {most} at once")
        self.check_room(len(items))
        try:
            ids = await run_in_threadpool(self.encoded, items, given[0])
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        try:
            return await asyncio.wrap_future(self.batcher.submit(ids))
        except Overloaded as error:
            raise HTTPException(429, str(error), {"Retry-After": RETRY_AFTER}) from error
        except (ValueError, RuntimeError) as error:
            raise HTTPException(500, str(error)) from error

    def encoded(self, items: list[Any], kind: str) -> list[list[int]]:
        """Token ids of all conversations of a request."""
        read = _from_text if kind == "query" else _from_messages
        conversations = [read(item, f"{kind} {number}") for number, item in enumerate(items)]
        with self.tokenizing:
            return self.scorer.encode(conversations)


def _parse(text: bytes) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, "the body is not JSON") from error
    if not isinstance(body, dict):
        raise HTTPException(422, f"the body is {described(body)}; expected an object")
    return body


def _from_text(item: Any, name: str) -> list[Message]:
    if not isinstance(item, str):
        raise ValueError(f"{name} is {described(item)}; expected text")
    try:
        return parse_reward_text(item)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _from_messages(item: Any, name: str) -> list[Message]:
    messages = read_messages(item, name)
    if not messages or messages[-1]["role"] != "assistant":
        raise ValueError(f"{name} does not end with the assistant's answer")
    return messages


def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)
