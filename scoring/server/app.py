"""The server's HTTP side: what may be asked, and the answer to what may not. `openapi.yaml` describes it for clients.

What is asked for is read in `reading`, computed by the `batcher`, and counted in `metrics`. Errors are `{"error": what}`: 401
without the token, 413 for more than a request may hold, 408 for a body that does not come, 422 for what cannot be scored,
429 (with Retry-After) when too much waits, 500 where the model fails, 503 when the server stops first or too many
connections are open. What was said in a chat is in no error and in no log.
"""

import asyncio
import hmac
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from wildreward.common.hashing import text_sha256
from wildreward.common.names import public_name
from wildreward.scoring.protocol import NotFinite
from wildreward.scoring.scorer import RewardScorer
from wildreward.scoring.server.batcher import Batcher, Overloaded, Stopped
from wildreward.scoring.server.connections import TOO_MANY
from wildreward.scoring.server.description import description, page
from wildreward.scoring.server.limits import Limits
from wildreward.scoring.server.metrics import Metrics
from wildreward.scoring.server.reading import Encoded, Item, Reader, inputs_in, messages_in, queries_in, unless_gone
from wildreward.scoring.server.uploads import Uploads

RETRY_AFTER = "1"  # seconds
LEFT = Response(status_code=499)  # for a client that is gone
RAW = ("use_activation", "activation", "softmax")  # names that vLLM's versions gave to one option

Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(
    scorer: RewardScorer,
    name: str,
    limits: Limits | None = None,
    token: str | None = None,
    revision: str | None = None,
) -> Starlette:
    """The server as an ASGI application.

    Args:
        scorer: the model; nobody else may use it meanwhile.
        name: of the model, as clients see it.
        limits: see `Limits`.
        token: what requests must bring as bearer token; None: nothing.
        revision: commit of a model from the Hub.
    """
    service = _Service(scorer, name, limits or Limits(), token, revision)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        yield
        await run_in_threadpool(service.close)

    handlers = {HTTPException: _refused, Exception: _failed}
    app = Starlette(routes=service.routes(), lifespan=lifespan, exception_handlers=handlers)
    app.router.redirect_slashes = False  # to whatever host the request names
    return app


class _Service:
    def __init__(
        self, scorer: RewardScorer, name: str, limits: Limits, token: str | None, revision: str | None
    ) -> None:
        self.scorer, self.name, self.limits, self.token, self.revision = scorer, name, limits, token, revision
        self.most = min(limits.max_conversations, limits.max_waiting)
        self.batcher = Batcher(scorer.predict_ids, scorer.token_budget, limits.max_waiting)
        self.uploads = Uploads(limits)
        self.reader = Reader(scorer, limits)
        self.metrics = Metrics(lambda: self.batcher.waiting)
        self.started, self.description = int(time.time()), description()

    def routes(self) -> list[Route]:
        """Scores only for those who may ask, while there is room; what tells of the model only for those who may ask."""
        scores = {"/score": self.score, "/get_reward": self.get_reward, "/classify": self.classify}
        tells = {"/info": self.info, "/v1/models": self.models, "/metrics": self.prometheus}
        tells_all = {"/health": self.health, "/openapi.json": self.openapi, "/docs": self.docs}
        return [
            *(
                Route(path, self.counted(path, self.guarded(answer)), methods=["POST"])
                for path, answer in scores.items()
            ),
            *(Route(path, self.known(answer)) for path, answer in tells.items()),
            *(Route(path, answer) for path, answer in tells_all.items()),
        ]

    def close(self) -> None:
        self.batcher.close()
        self.reader.close()

    async def health(self, request: Request) -> Response:
        alive = self.batcher.alive
        state = {"status": "ok" if alive else "stopped", "model": self.name, "waiting": self.batcher.waiting}
        return JSONResponse(state | {"levels": self.scorer.model.config.num_levels}, 200 if alive else 503)

    async def info(self, request: Request) -> Response:
        config = self.scorer.model.config
        return JSONResponse(
            {
                "model": self.name,
                "revision": self.revision,
                "base_model": config.base_model and public_name(config.base_model),
                "template_sha256": text_sha256(self.scorer.tokenizer.get_chat_template()),
                "levels": config.num_levels,
                "head": config.head,
                "temperatures": list(config.temperatures),
                "max_length": config.max_length,
                "dtype": str(self.scorer.model.dtype).removeprefix("torch."),
                "wildreward": version("wildreward"),
            }
        )

    async def models(self, request: Request) -> Response:
        """What clients of vLLM ask for first."""
        model = {"id": self.name, "object": "model", "created": self.started, "owned_by": "wildreward"}
        return JSONResponse(
            {"object": "list", "data": [model | {"max_model_len": self.scorer.model.config.max_length}]}
        )

    async def prometheus(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type=self.metrics.content_type)

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(self.description)

    async def docs(self, request: Request) -> Response:
        return HTMLResponse(page(self.description))

    async def score(self, request: Request) -> Response:
        rows, _ = await self.scored(request, messages_in)
        return JSONResponse({"scores": [row[0] for row in rows], "level_probs": [row[1:] for row in rows]})

    async def get_reward(self, request: Request) -> Response:
        """As OpenRLHF's trainer reads it: `scores`, by which it filters prompts, are between 0 and 1."""
        rows, encoded = await self.scored(request, queries_in)
        highest = self.scorer.model.config.num_levels
        rewards = [row[0] for row in rows]
        logs = {f"level_{level}_prob": [row[level] for row in rows] for level in range(1, highest + 1)}
        return JSONResponse(
            {
                "rewards": rewards,
                "scores": [(reward - 1) / (highest - 1) for reward in rewards],
                "extra_logs": logs | {"num_messages": [float(count) for count in encoded.messages]},
            }
        )

    async def classify(self, request: Request) -> Response:
        rows, encoded = await self.scored(request, self.classify_items)
        data = []
        for index, (_, *probs) in enumerate(rows):
            label = str(1 + probs.index(max(probs)))
            data.append({"index": index, "label": label, "probs": probs, "num_classes": len(probs)})
        tokens = sum(map(len, encoded.ids))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0, "prompt_tokens_details": None}
        answer = {"id": f"classify-{uuid.uuid4().hex}", "object": "list", "created": int(time.time())}
        return JSONResponse(answer | {"model": self.name, "data": data, "usage": usage})

    def classify_items(self, body: dict[str, Any]) -> list[Item]:
        if body.get("model") not in (None, self.name):
            raise HTTPException(404, f"the request is for another model; this server has {self.name}")
        if asked := next((option for option in RAW if body.get(option) is False), None):
            raise HTTPException(422, f"{asked} is false; there are probabilities only, of the levels; leave it out")
        return inputs_in(body)

    def counted(self, path: str, answer: Endpoint) -> Endpoint:
        """An endpoint whose requests are counted."""

        async def endpoint(request: Request) -> Response:
            started, status = time.perf_counter(), 500
            try:
                response = await answer(request)
                status = response.status_code
                return response
            except HTTPException as error:
                status = error.status_code
                raise
            finally:
                self.metrics.answered(path, status, time.perf_counter() - started)

        return endpoint

    def known(self, answer: Endpoint) -> Endpoint:
        """An endpoint for those who bring the token."""

        async def endpoint(request: Request) -> Response:
            self.check_token(request)
            return await answer(request)

        return endpoint

    def guarded(self, answer: Endpoint) -> Endpoint:
        """An endpoint for those who bring the token, while there is room."""

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

    async def scored(
        self, request: Request, items_in: Callable[[dict[str, Any]], list[Item]]
    ) -> tuple[list[list[float]], Encoded]:
        """`[score, P(1), …, P(K)]` for each conversation that `items_in` finds in the body of a request, and what was read.

        Raises:
            HTTPException: an answer that is none.
            ClientDisconnect: the client left.
        """
        reserved = 0
        try:
            with self.uploads.opened() as upload:
                items = items_in(await self.reader.parsed(await self.uploads.read(request, upload)))
                if len(items) > self.most:
                    raise HTTPException(413, f"{len(items)} conversations; send at most {self.most} at once")
                self.reserve(len(items))
                reserved = len(items)
                encoded = await self.reader.encoded(request, items)
                del items
            future = self.batcher.submit(encoded.ids)
            reserved = 0
            rows = await unless_gone(request, future)
            self.metrics.scored(len(rows), sum(map(len, encoded.ids)))
            return rows, encoded
        except NotFinite as error:
            raise HTTPException(500, "the model gives NaN or infinity for a conversation of this request") from error
        except Stopped:
            raise
        except RuntimeError as error:
            raise HTTPException(500, str(error)) from error
        finally:
            self.batcher.release(reserved)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"the server failed ({type(error).__name__})"}, 500)
