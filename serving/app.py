"""The server's HTTP side: what may be asked, and the answer to what may not.

    GET  /health      {"status": "ok", "model", "levels", "waiting"}
    POST /score       {"messages": [conversation, …]} → {"scores": [number, …], "level_probs": [[P(1), …, P(K)], …]}
    POST /get_reward  {"query": [text, …]} or {"messages": […]} → {"rewards": [number, …]}

A conversation is a list of `{"role", "content"}` that ends with the assistant's answer; a text is what
`wildreward.reward_text.render_reward_text` makes of one. Errors are `{"error": what}`: 401 without the token, 413 for more
than a request may hold, 408 for a body that does not come, 422 for what cannot be scored, 429 (with Retry-After) when too
much waits, 500 where the model fails, 503 when the server stops first or too many connections are open. What was said in a
chat is in no error and in no log.
"""

import asyncio
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import islice
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
from wildreward.serving.connections import TOO_MANY
from wildreward.serving.limits import Limits
from wildreward.serving.uploads import Uploads

RETRY_AFTER = "1"  # seconds
TURN_CONVERSATIONS = 16  # of a request, that are tokenized before it is another's turn
TURN_SIZE = 200_000  # likewise, in characters
MESSAGE_SIZE = 100  # characters that take as long as what is done for a message
SMALL = 64 << 10  # bytes that are parsed at once
LEFT = Response(status_code=499)  # for a client that is gone
# In JSON, the way to the next value and what shows it, and a piece of a text: bounded, for no other thread runs meanwhile
NEXT = re.compile(rb'[^\[{,"]{0,1000000}+([\[{,"]?)')
PIECE = re.compile(rb'[^"\\]{0,1000}+(?:\\.[^"\\]{0,1000}+){0,1000}+', re.DOTALL)


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
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
    app.router.redirect_slashes = False  # to whatever host the request names
    return app


class _Service:
    def __init__(self, scorer: RewardScorer, name: str, limits: Limits, token: str | None) -> None:
        self.scorer, self.name, self.limits, self.token = scorer, name, limits, token
        self.most = min(limits.max_conversations, limits.max_waiting)
        self.batcher = Batcher(scorer.judge_ids, scorer.token_budget, limits.max_waiting)
        self.uploads = Uploads(limits)
        self.parser = ThreadPoolExecutor(1)  # one large body at a time
        self.tokenizer = ThreadPoolExecutor(1)  # a tokenizer is not made for several threads
        self.surroundings = _surroundings(scorer)

    def close(self) -> None:
        self.batcher.close()
        self.parser.shutdown(cancel_futures=True)
        self.tokenizer.shutdown(cancel_futures=True)

    async def health(self, request: Request) -> Response:
        alive = self.batcher.alive
        state = {"status": "ok" if alive else "stopped", "model": self.name, "waiting": self.batcher.waiting}
        return JSONResponse(state | {"levels": self.scorer.model.config.num_levels}, 200 if alive else 503)

    async def score(self, request: Request) -> Response:
        rows = await self.judged(request, ("messages",))
        return JSONResponse({"scores": [row[0] for row in rows], "level_probs": [row[1:] for row in rows]})

    async def get_reward(self, request: Request) -> Response:
        return JSONResponse({"rewards": [row[0] for row in await self.judged(request, ("query", "messages"))]})

    def guarded(self, answer: Callable[[Request], Awaitable[Response]]) -> Callable:
        """An endpoint for those who may ask, while there is room."""

        async def endpoint(request: Request) -> Response:
            try:
                if getattr(request.state, "spare", False):
                    raise HTTPException(503, TOO_MANY, {"Retry-After": RETRY_AFTER, "Connection": "close"})
                self.check_token(request)
                self.reserve(1)
                self.batcher.release(1)
                return await answer(request)
            except ClientDisconnect:
                return LEFT
            except (Stopped, asyncio.CancelledError) as error:  # by uvicorn, when the time to end requests is over
                raise HTTPException(503, str(Stopped())) from error

        return endpoint

    def check_token(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        known = self.token is None or hmac.compare_digest(given.strip().encode(), self.token.encode())
        if not known or (self.token is not None and scheme.lower() != "bearer"):
            raise HTTPException(401, "the bearer token is missing or wrong", {"WWW-Authenticate": "Bearer"})

    def reserve(self, count: int) -> None:
        try:
            self.batcher.reserve(count)
        except Overloaded as error:
            raise HTTPException(429, str(error), {"Retry-After": RETRY_AFTER}) from error

    async def judged(self, request: Request, keys: Sequence[str]) -> list[list[float]]:
        """`[score, P(1), …, P(K)]` for each conversation of a request, under one of `keys` in its body.

        Raises:
            HTTPException: an answer that is none.
            ClientDisconnect: the client left.
        """
        reserved = 0
        try:
            with self.uploads.opened() as upload:
                items, kind = await self.items(await self.uploads.read(request, upload), keys)
                self.reserve(len(items))
                reserved = len(items)
                ids = await self.encoded(request, items, kind)
                del items
            future = self.batcher.submit(ids)
            reserved = 0
            return await _unless_gone(request, future)
        except NotFinite as error:
            raise HTTPException(500, "the model gives NaN or infinity for a conversation of this request") from error
        except Stopped:
            raise
        except RuntimeError as error:
            raise HTTPException(500, str(error)) from error
        finally:
            self.batcher.release(reserved)

    async def items(self, text: bytes, keys: Sequence[str]) -> tuple[list[Any], str]:
        """The list in a body, and the key under which it is."""
        most = self.limits.max_values
        if len(text) <= SMALL:
            body = _parse(text, most)
        else:
            body = await asyncio.wrap_future(self.parser.submit(_parse, text, most))
        given = [key for key in keys if key in body]
        if len(given) != 1 or not isinstance(body[given[0]], list):
            raise HTTPException(422, f"the body is {described(body)}; expected one list: {' or '.join(keys)}")
        items = body[given[0]]
        if len(items) > self.most:
            raise HTTPException(413, f"{len(items)} conversations; send at most {self.most} at once")
        return items, given[0]

    async def encoded(self, request: Request, items: list[Any], kind: str) -> list[list[int]]:
        """Token ids of all conversations of a request, a few at a time."""
        ids: list[list[int]] = []
        while len(ids) < len(items):
            try:
                ids += await _unless_gone(request, self.tokenizer.submit(self.encode, items, kind, len(ids)))
            except ValueError as error:
                raise HTTPException(422, str(error)) from error
        return ids

    def encode(self, items: list[Any], kind: str, start: int) -> list[list[int]]:
        """Token ids of the items from `start` on: as many as are a request's turn."""
        conversations: list[list[Message]] = []
        size = 0
        for number, item in enumerate(items[start : start + TURN_CONVERSATIONS], start):
            conversation, characters = self.read(item, kind, f"{kind} {number}")
            conversations.append(conversation)
            size += characters + MESSAGE_SIZE * len(conversation)
            if size > TURN_SIZE:
                break
        try:
            return self.scorer.encode(conversations)
        except ValueError:
            for number, conversation in enumerate(conversations, start):
                try:
                    self.scorer.encode([conversation])
                except ValueError as error:
                    raise ValueError(f"{kind} {number}: {str(error).removeprefix('conversation 0: ')}") from error
            raise

    def read(self, item: Any, kind: str, name: str) -> tuple[list[Message], int]:
        """A conversation within the limits, and its characters."""
        if kind == "query":
            if isinstance(item, str):
                _check_size(name, len(item), self.limits.max_characters, "characters")
            conversation = self.from_text(item, name)
        else:
            if isinstance(item, list):
                _check_size(name, len(item), self.limits.max_messages, "messages")
            conversation = _from_messages(item, name)
        characters = sum(len(message["content"] or "") for message in conversation)
        _check_size(name, characters, self.limits.max_characters, "characters")
        _check_size(name, len(conversation), self.limits.max_messages, "messages")
        return conversation, characters

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
    """What the job gives. A job that nobody waits for is cancelled.

    Raises:
        ClientDisconnect: the client leaves before it is done.
    """
    result, gone = asyncio.wrap_future(job), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((result, gone), return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise ClientDisconnect
        return result.result()
    finally:
        result.cancel()
        gone.cancel()


def _check_size(name: str, found: int, most: int, what: str) -> None:
    if found > most:
        raise HTTPException(413, f"{name} has {found} {what}; a conversation may have at most {most}")


def _values(text: bytes) -> Iterator[int]:
    """Where texts, lists, objects and commas are in JSON."""
    at = 0
    while at < len(text):
        found = NEXT.match(text, at)
        assert found is not None
        at = found.end()
        if found[1]:
            yield at
        if found[1] == b'"':
            while (piece := PIECE.match(text, at)) and piece.end() > at:
                at = piece.end()
            at += 1


def _parse(text: bytes, most: int) -> dict[str, Any]:
    if len(text) > most and sum(1 for _ in islice(_values(text), most + 1)) > most:
        raise HTTPException(413, f"the body has more than {most} values; send fewer conversations at once")
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
