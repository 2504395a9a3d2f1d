"""Clients that a server has to bear, beside others that get their answers: shared by the tests of it."""

import http.client
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HALVES = (b"", b"POST /sc", b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Len")


def ask(port, path, body=None, timeout=60):
    """Status, answer and headers of one request on a connection of its own; POST where there is a body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request("GET" if body is None else "POST", path, data)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), answer.headers
    finally:
        connection.close()


def ask_until_taken(port, path, body, deadline=20):
    """The status, asking again as `train-dpo` does."""
    end = time.monotonic() + deadline
    while True:
        try:
            status = ask(port, path, body, timeout=120)[0]
        except OSError:
            status = 0
        if status not in (0, 429, 503) or time.monotonic() > end:
            return status
        time.sleep(1)


def raw(port, data, timeout=10):
    """All that is answered to these bytes until the connection is closed."""
    parts = []
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection, suppress(ConnectionError):
        connection.sendall(data)  # or what is taken of it
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def memory_mb(pid, which="VmRSS"):
    """Memory of a process in MB: now (VmRSS), or the most it had (VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(which)) / 1024


@contextmanager
def half_open(port: int, count: int) -> Iterator[None]:
    """Another process holds connections that never send a whole head; those that the server closes come again."""
    with _elsewhere("half", port, count):
        yield


@contextmanager
def unfinished_bodies(port: int, count: int, size: int) -> Iterator[None]:
    """Another process sends bodies, all but their last byte."""
    with _elsewhere("body", port, count, size):
        yield


@contextmanager
def _elsewhere(*arguments: object) -> Iterator[None]:
    child = subprocess.Popen([sys.executable, "-m", "tests.scoring.storm", *map(str, arguments)])
    try:
        yield
    finally:
        child.kill()
        child.wait()


class Half:
    """A connection that sends a part of a request."""

    def __init__(self, port: int, head: bytes, size: int = 0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.socket.sendall(head)
        self.socket.setblocking(False)
        self.left = size - 1

    def goes_on(self) -> bool:
        """Send what can be sent: whether the server has neither answered nor closed."""
        try:
            if self.left > 0:
                self.left -= self.socket.send(b" " * min(self.left, 1 << 20))
        except BlockingIOError:
            pass
        except OSError:
            self.socket.close()
            return False
        try:
            self.socket.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            pass
        self.socket.close()
        return False


def main(kind: str, port: int, count: int, size: int = 0) -> None:
    """Hold `count` connections until killed."""
    body = f"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode()
    held: list[Half | None] = [None] * count
    again = 0.0
    while True:
        for place, half in enumerate(held):
            if half is not None and not half.goes_on():
                held[place] = None
        if time.monotonic() > again and (again == 0 or kind == "half"):
            again = time.monotonic() + 2
            for place in (place for place, half in enumerate(held) if half is None):
                try:
                    held[place] = Half(port, body if kind == "body" else HALVES[place % len(HALVES)], size)
                except OSError:
                    continue
        time.sleep(0.01)


class Prober:
    """Asks the same again and again on new connections: how long it took, and what went wrong."""

    def __init__(self, once: Callable[[], object], pause: float) -> None:
        self.once, self.pause = once, pause
        self.seconds: list[float] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(self.pause):
            start = time.perf_counter()
            try:
                self.once()
            except Exception as error:  # whatever it is, the test shows it
                self.failures.append(f"{type(error).__name__}: {error}")
            self.seconds.append(time.perf_counter() - start)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()

    def __str__(self) -> str:
        middle, most = statistics.median(self.seconds), max(self.seconds)
        said = f"{len(self.seconds)} asked, {middle:.3f} s in the median, {most:.3f} s at most"
        return f"{said}; {len(self.failures)} failures {self.failures[:3]}"


def health(port: int) -> None:
    status, answer, _ = ask(port, "/health")
    assert (status, answer["status"]) == (200, "ok"), (status, answer)


def scored(port: int, chats: list, expected: list[float]) -> None:
    """Raises AssertionError where the scores are not those expected."""
    status, answer, _ = ask(port, "/score", {"messages": chats})
    assert status == 200, (status, answer)
    apart = max(abs(one - other) for one, other in zip(answer["scores"], expected, strict=True))
    assert apart < 1e-4, f"scores differ by {apart}"


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
