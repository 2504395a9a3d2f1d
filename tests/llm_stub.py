"""A small OpenAI-compatible server over real sockets, for tests and benchmarks of the labelers that ask an endpoint.

In a test:
    with StubServer(lambda request: Reply(chat('{"level": 2}'))) as stub:
        ... base_url=stub.url ...
    stub.requests      # every request received, in order

As a process (prints its URL on the first line, then one JSON line a request when asked to with --log FILE):
    python tests/llm_stub.py --delay 0.5

It parses as little HTTP as it can, so that a benchmark measures the client and not the stub.
"""

import argparse
import asyncio
import hashlib
import itertools
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Self

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}


@dataclass
class Request:
    """One received request: `body` is the parsed JSON, `number` counts from 0 over the server's life."""

    number: int
    path: str
    headers: dict[str, str]
    raw: bytes
    at: float

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.raw)

    @property
    def prompt(self) -> str:
        return "\n".join(message["content"] for message in self.body["messages"])


@dataclass
class Reply:
    """What to send back, `delay` seconds later.

    fault: None sends it whole; "reset" cuts the connection in the middle of the body; "hang" never answers;
    "drip" sends a byte now and then, so that no socket timeout ever fires.
    """

    body: dict[str, Any] | bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    fault: Literal["reset", "hang", "drip"] | None = None


def chat(
    content: str | None,
    finish_reason: str = "stop",
    prompt_tokens: int = 100,
    completion_tokens: int = 5,
    logprobs: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The JSON of a chat completion."""
    return {
        "id": "stub",
        "object": "chat.completion",
        "created": 0,
        "model": "stub",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content},
                "finish_reason": finish_reason,
                "logprobs": {"content": logprobs} if logprobs else None,
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


def error(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    """An error as OpenAI's API words it; header names are given with underscores."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    return Reply(body, status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})


def level_by_content(request: Request) -> Reply:
    """A level or verdict that depends on the request's text only: every run over the same rows gets the same answers."""
    instructions, question = (message["content"] for message in request.body["messages"][:2])
    number = hashlib.sha256(question.encode()).digest()[0]
    if '{"verdict": V}' in instructions:
        verdict = ("answered", "justified_refusal", "false_refusal")[number % 3]
        return Reply(chat(json.dumps({"verdict": verdict})))
    return Reply(chat(json.dumps({"level": number % 5 + 1})))


class _Connection(asyncio.Protocol):
    def __init__(self, server: "StubServer") -> None:
        self.server = server
        self.buffer = b""
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.server.open_connections.add(self)
        self.server.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.open_connections.discard(self)
        self.finish()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1)[0:1] + line.split(": ", 1)[1:2] for line in lines[1:])
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        request = Request(next(self.server.numbers), lines[0].split(" ")[1], headers, rest[:length], time.monotonic())
        self.busy = True
        self.server.started(request)
        reply = self.server.behaviour(request)
        if reply.fault == "hang":
            return
        asyncio.get_running_loop().call_later(reply.delay, self.send, reply)

    def send(self, reply: Reply) -> None:
        if self.transport.is_closing():
            return
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        head = f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'Status')}\r\nContent-Type: application/json\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
        whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        if reply.fault == "reset":
            self.transport.write(whole[: -len(body) // 2])
            asyncio.get_running_loop().call_later(0.01, self.transport.abort)
        elif reply.fault == "drip":
            self.drip(whole, len(whole) - len(body))
        else:
            self.transport.write(whole)
        if reply.fault != "drip":
            self.finish()

    def drip(self, whole: bytes, size: int) -> None:
        if self.transport.is_closing() or not whole:
            return
        self.transport.write(whole[:size])
        asyncio.get_running_loop().call_later(0.05, self.drip, whole[size:], 1)

    def finish(self) -> None:
        if self.busy:
            self.busy = False
            self.server.in_flight -= 1


class StubServer:
    """The server in its own thread, on a free port; see the module's docstring."""

    def __init__(self, behaviour: Callable[[Request], Reply] = level_by_content, port: int = 0) -> None:
        self.behaviour = behaviour
        self.port = port
        self.requests: list[Request] = []
        self.numbers = itertools.count()
        self.keep_requests = True
        self.log: Any = None
        self.in_flight = self.peak_in_flight = self.connections = 0
        self.open_connections: set[_Connection] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def started(self, request: Request) -> None:
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        if self.keep_requests:
            self.requests.append(request)
        if self.log:
            self.log.write(json.dumps({"number": request.number, "body": request.body}) + "\n")
            self.log.flush()

    async def serve(self, ready: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._loop = loop
        server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        ready()
        await self._stop.wait()
        server.close()
        for connection in list(self.open_connections):
            connection.transport.abort()

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve(ready.set)), daemon=True)
        self._thread.start()
        assert ready.wait(10), "the stub server did not start"
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--fixed", action="store_true", help="always answer level 3, at the least cost")
    parser.add_argument("--log", help="append every request body to this file, one JSON object a line")
    arguments = parser.parse_args()
    fixed = json.dumps(chat('{"level": 3}')).encode()

    def behaviour(request: Request) -> Reply:
        reply = Reply(fixed) if arguments.fixed else level_by_content(request)
        reply.delay = arguments.delay
        return reply

    server = StubServer(behaviour, arguments.port)
    server.keep_requests = False
    if arguments.log:
        server.log = open(arguments.log, "a")  # noqa: SIM115 - open until the process ends
    asyncio.run(server.serve(lambda: print(server.url, flush=True)))


if __name__ == "__main__":
    main()
