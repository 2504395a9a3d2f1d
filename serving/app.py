"""The server's HTTP side: what may be asked, and the answer to what may not.

    GET  /health      {"status": "ok", "model", "levels", "waiting"}
    POST /score       {"messages": [conversation, …]} → {"scores": [number, …], "level_probs": [[P(1), …, P(K)], …]}
    POST /get_reward  {"query": [text, …]} or {"messages": […]} → {"rewards": [number, …]}

A conversation is a list of `{"role", "content"}` that ends with the assistant's answer; a text is what
`wildreward.reward_text.render_reward_text` makes of one. Errors are `{"error": what}`: 401 without the token, 413 for more
than a request may hold, 422 for what cannot be scored, 429 (with Retry-After) when too much waits, 500 where the model
fails, 503 when the server stops first. What was said in a chat is in no error and in no log.
"""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wildreward.errors import described
from wildreward.messages import Message, read_messages
from wildreward.reward_text import HEADER, parse_reward_text
from wildreward.scorer import NotFinite, RewardScorer
from wildreward.serving.batcher import Batcher, Overloaded, Stopped

RETRY_AFTER = "1"  # seconds
TOKENIZED = 16  # conversations of a request that are tokenized before it is another's turn
UPLOAD_SECONDS = 60  # that a body may take
LEFT = Response(status_code=499)  # for a client that is gone


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
        await run_in_threadpool(service.close)

    routes = [
        Route("/health", service.health, methods=["GET"]),
        Route("/score", service.guarded(service.score), methods=["POST"]),
        Route("/get_reward", service.guarded(service.get_reward), methods=["POST"]),
    ]
    handlers = {HTTPException: _told, Exception: _failed}
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)


class _Service:
    def __init__(self, scorer: RewardScorer, name: str, limits: Limits, token: str | None) -> None:
        self.scorer, self.name, self.limits, self.token = scorer, name, limits, token
        self.most = min(limits.max_conversations, limits.max_waiting)
        self.batcher = Batcher(scorer.judge_ids, scorer.token_budget, limits.max_waiting)
        self.tokenizer = ThreadPoolExecutor(1)  # a tokenizer is not made for several threads
        self.surroundings = _surroundings(scorer)

    def close(self) -> None:
        self.batcher.close()
        self.tokenizer.shutdown(cancel_futures=True)

    async def health(self, request: Request) -> Response:
        alive = self.batcher.alive
        state = {"status": "ok" if alive else "stopped", "model": self.name, "waiting": self.batcher.waiting}
        return JSONResponse(state | {"levels": self.scorer.model.config.num_levels}, 200 if alive else 503)

    async def score(self, request: Request, body: dict[str, Any]) -> Response:
        rows = await self.judged(request, body, ("messages",))
        if rows is None:
            return LEFT
        return JSONResponse({"scores": [row[0] for row in rows], "level_probs": [row[1:] for row in rows]})

    async def get_reward(self, request: Request, body: dict[str, Any]) -> Response:
        rows = await self.judged(request, body, ("query", "messages"))
        return LEFT if rows is None else JSONResponse({"rewards": [row[0] for row in rows]})

    def guarded(self, answer: Callable[[Request, dict[str, Any]], Awaitable[Response]]) -> Callable:
        """An endpoint that has checked who asks, that there is room, and that the body is an object."""

        async def endpoint(request: Request) -> Response:
            self.check_token(request)
            self.reserve(1)
            self.batcher.release(1)
            try:
                async with asyncio.timeout(UPLOAD_SECONDS):
                    text = await self.body(request)
            except ClientDisconnect:
                return LEFT
            except TimeoutError as error:
                raise HTTPException(408, f"the body took longer than {UPLOAD_SECONDS} s") from error
            return await answer(request, await run_in_threadpool(_parse, text))

        async def ended(request: Request) -> Response:
            try:
                return await endpoint(request)
            except (Stopped, asyncio.CancelledError) as error:  # by uvicorn, when the time to end requests is over
                raise HTTPException(503, str(Stopped())) from error

        return ended

    def check_token(self, request: Request) -> None:
        given = request.headers.get("authorization", "")
        if self.token is not None and not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            raise HTTPException(401, "the bearer token is missing or wrong", {"WWW-Authenticate": "Bearer"})

    def reserve(self, count: int) -> None:
        try:
            self.batcher.reserve(count)
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

    async def judged(self, request: Request, body: dict[str, Any], keys: Sequence[str]) -> list[list[float]] | None:
        """`[score, P(1), …, P(K)]` for each conversation of a request; None when the client left."""
        given = [key for key in keys if key in body]
        if len(given) != 1 or not isinstance(body[given[0]], list):
            raise HTTPException(422, f"the body is {described(body)}; expected one list: {' or '.join(keys)}")
        items = body[given[0]]
        if len(items) > self.most:
            raise HTTPException(413, f"{len(items)} conversations; send at most {self.most} at once")
        self.reserve(len(items))
        submitted = False
        try:
            ids = await self.encoded(request, items, given[0])
            if ids is None:
                return None
            future = self.batcher.submit(ids)
            submitted = True
            return await _unless_gone(request, future)
        except NotFinite as error:
            raise HTTPException(500, "the model gives NaN or infinity for a conversation of this request") from error
        except Stopped:
            raise
        except RuntimeError as error:
            raise HTTPException(500, str(error)) from error
        finally:
            if not submitted:
                self.batcher.release(len(items))

    async def encoded(self, request: Request, items: list[Any], kind: str) -> list[list[int]] | None:
        """Token ids of all conversations of a request, a few at a time; None when the client left."""
        ids: list[list[int]] = []
        for start in range(0, len(items), TOKENIZED):
            job = self.tokenizer.submit(self.encode, items[start : start + TOKENIZED], kind, start)
            try:
                found = await _unless_gone(request, job)
            except ValueError as error:
                raise HTTPException(422, str(error)) from error
            if found is None:
                return None
            ids += found
        return ids

    def encode(self, items: list[Any], kind: str, start: int) -> list[list[int]]:
        read = self.from_text if kind == "query" else _from_messages
        conversations = [read(item, f"{kind} {number}") for number, item in enumerate(items, start)]
        try:
            return self.scorer.encode(conversations)
        except ValueError:
            for number, conversation in enumerate(conversations, start):
                try:
                    self.scorer.encode([conversation])
                except ValueError as error:
                    raise ValueError(f"{kind} {number}: {str(error).removeprefix('conversation 0: ')}") from error
            raise

    def from_text(self, item: Any, name: str) -> list[Message]:
        if not isinstance(item, str):
            raise ValueError(f"{name} is {described(item)}; expected text")
        before, after = self.surroundings
        try:
            return parse_reward_text(item.removeprefix(before).removesuffix(after))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error


def _surroundings(scorer: RewardScorer) -> tuple[str, str]:
    """What this tokenizer's template puts before and after the reward model's input text; another template: nothing."""
    answer = "·"
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
    text = scorer.tokenizer.apply_chat_template(messages, tokenize=False)
    if HEADER not in text:
        return "", ""
    return text[: text.index(HEADER)], text[text.rindex(answer) + len(answer) :]


async def _unless_gone(request: Request, job: Future) -> Any:
    """What the job gives; None when the client leaves before it is done. A job that nobody waits for is cancelled."""
    result, gone = asyncio.wrap_future(job), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((result, gone), return_when=asyncio.FIRST_COMPLETED)
        return result.result() if result.done() else None
    finally:
        result.cancel()
        gone.cancel()


def _parse(text: bytes) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, "the body is not JSON") from error
    if not isinstance(body, dict):
        raise HTTPException(422, f"the body is {described(body)}; expected an object")
    return body


def _from_messages(item: Any, name: str) -> list[Message]:
    messages = read_messages(item, name)
    if not messages or messages[-1]["role"] != "assistant":
        raise ValueError(f"{name} does not end with the assistant's answer")
    return messages


def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"the server failed ({type(error).__name__})"}, 500)
