"""Connections: how many there may be, how long one may take to ask, and what is refused as not being HTTP.

uvicorn waits for a request's head without end and takes any number of connections. Here, one that has asked for nothing yet
is closed after a while, and at once, the longest waiting first, when a new one needs its place. Where all of them are busy,
a few more are let in to ask for `/health`: their requests find `spare` in their state. Requests are parsed by httptools,
which refuses what two servers could read differently (two lengths, a length beside chunks, folded headers).

What is used of uvicorn beyond its documented interface is here: its protocol class, and when it calls which method.
"""

import asyncio
import json
import logging
import resource
import select
import socket
import time
from functools import partial
from http import HTTPStatus
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from wildreward.common.errors import UserError
from wildreward.scoring.server.limits import Limits

logger = logging.getLogger(__name__)

SPARE = 16  # connections beyond the limit, for `/health`
ACCEPTED = 16  # new connections at a time, each a file before it is counted
OTHER_FILES = 96  # that the process has open or is about to accept or close
BACKLOG = 1024  # connections that the system holds until they are accepted
DRAIN_PAUSE = 0.03  # seconds between two reads of a body that was refused
TOO_MANY = "too many connections are open; try again later"
WARN_SECONDS = 60  # at most one warning in


def make_server(app: ASGIApp, limits: Limits, **settings: Any) -> uvicorn.Server:
    """A server of an app, within limits; `settings` are uvicorn's.

    Raises:
        UserError: the process may open too few files.
    """
    pools = Pool(connections_within_files(limits.max_connections)), Pool(SPARE)
    config = uvicorn.Config(
        app,
        http=partial(Connection, pools=pools, limits=limits),  # type: ignore[arg-type]
        ws="none",
        loop="asyncio",
        backlog=ACCEPTED,
        timeout_keep_alive=limits.idle_seconds,
        log_level="error",  # its warnings are about what clients send: anyone could fill the log
        access_log=False,
        **settings,
    )
    return Server(config)


def connections_within_files(wanted: int) -> int:
    """How many of the connections wanted the process may hold, after asking the system for as many files.

    Raises:
        UserError: not even one.
    """
    others = SPARE + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = max(soft, wanted + others)
    if soft < min(wanted + others, hard):
        soft = min(wanted + others, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    found = min(wanted, soft - others)
    if found < 1:
        raise UserError(f"the server may open {soft} files; it needs at least {others + 1}: raise `ulimit -n`")
    if found < wanted:
        logger.warning("at most %d connections, not %d: `ulimit -n` is %d", found, wanted, soft)
    return found


class Pool:
    """Places for connections."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.open: set[Connection] = set()
        self.waiting: dict[Connection, None] = {}  # for a request's head, the longest waiting first

    def admit(self, connection: "Connection") -> bool:
        """Give a place to a connection, if need be that of one that waits (best without bytes that were not looked at
        yet, which may be its request): whether there was one."""
        if len(self.open) >= self.places and self.waiting:
            oldest = next((one for one in self.waiting if not one.has_sent()), next(iter(self.waiting)))
            self.leave(oldest)
            oldest.transport.abort()
        if len(self.open) >= self.places:
            return False
        self.open.add(connection)
        return True

    def leave(self, connection: "Connection") -> None:
        self.open.discard(connection)
        self.waiting.pop(connection, None)


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with an end to waiting for a request's head and to its size."""

    def __init__(self, *args: Any, pools: tuple[Pool, Pool], limits: Limits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pools, self.limits = pools, limits
        self.pool: Pool | None = None
        self.unread = 0  # bytes since the last that were of a complete head or of a body
        self.complete = True  # the request, if there was one
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.pool = next((pool for pool in self.pools if pool.admit(self)), None)
        if self.pool is None:
            self.refuse(503, TOO_MANY)
            return
        self.app_state = self.app_state | {"spare": self.pool is not self.pools[0]}
        self.wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop_waiting()
        if self.pool is not None:
            self.pool.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.unread += len(data)
        super().data_received(data)
        if not self.complete and self.cycle is not None and self.cycle.response_complete:
            self.flow.pause_reading()  # nobody wants it: it must not keep the others waiting
            self.loop.call_later(DRAIN_PAUSE, self.flow.resume_reading)
        if self.unread > self.limits.max_head:
            self.refuse_head()

    def on_headers_complete(self) -> None:
        self.unread = 0
        if len(self.pipeline) >= self.limits.max_pipelined:
            self.pipeline.clear()
            self.transport.abort()  # who does not wait for answers does not read a refusal either
            raise ConnectionAbortedError  # and the rest of what came is not parsed
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > self.limits.max_head:
            self.refuse_head()
            return
        self.stop_waiting()
        self.complete = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.complete = True
        super().on_message_complete()
        self.wait_for_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.wait_for_head()

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, "the request is not valid HTTP")

    def wait_for_head(self) -> None:
        """Wait from now on, unless a request is under way; the rest of one that was answered before it was complete does
        not have longer, but keeps its place."""
        if self.pool is None or self.transport.is_closing() or not (self.cycle is None or self.cycle.response_complete):
            return
        self.stop_waiting()
        if self.complete:
            self.pool.waiting[self] = None
        self.timer = self.loop.call_later(self.limits.head_seconds, self.give_up)

    def stop_waiting(self) -> None:
        if self.pool is not None:
            self.pool.waiting.pop(self, None)
        if self.timer is not None:
            self.timer.cancel()

    def has_sent(self) -> bool:
        """Whether there are bytes to be read, of a client that is still there."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket"), select.POLLIN | getattr(select, "POLLRDHUP", 0))
        return any(event == select.POLLIN for _, event in poll.poll(0))

    def give_up(self) -> None:
        if self.unread:
            self.refuse(408, f"the request's headers took longer than {self.limits.head_seconds:g} s")
        else:
            self.transport.close()

    def refuse_head(self) -> None:
        self.refuse(431, f"the request's headers are larger than {self.limits.max_head} bytes")

    def refuse(self, status: int, said: str) -> None:
        """Answer without the app, and close."""
        if self.transport.is_closing():
            return
        body = json.dumps({"error": said})
        lines = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "connection: close",
        )
        self.transport.write("\r\n".join((*lines, "", body)).encode())
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server; it accepts a few connections at a time, and says once that files run out."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(BACKLOG)
        asyncio.get_running_loop().set_exception_handler(_LoopErrors())


class _LoopErrors:
    """Handles what the event loop could not: one warning a minute where no file can be opened."""

    def __init__(self) -> None:
        self.last = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("message") != "socket.accept() out of system resource":
            loop.default_exception_handler(context)
        elif time.monotonic() - self.last > WARN_SECONDS:
            self.last = time.monotonic()
            logger.warning("connections have to wait: %s", context["exception"])
