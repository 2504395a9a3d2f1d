"""Reward servers that break, drag on, lie or want the token: what the client makes of raw bytes on real sockets."""

import asyncio
import re
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from wildreward.common.errors import UserError
from wildreward.evaluation.store import Group, score_all
from wildreward.scoring import RewardFunction, RewardSourceError, load_scorer
from wildreward.scoring.endpoint import TOKEN_VARIABLE
from wildreward.scoring.reward_text import render_reward_text

TOKEN = "sk-1234567890abcdefgh"
CHAT = [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "4"}]
GOOD = b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{"rewards": [0.5]}'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class RawServer:
    """Answers every request with `reply`: bytes, or a function of the connection. Counts what it got and sent."""

    def __init__(self, reply) -> None:
        self.reply, self.requests, self.connections, self.sent = reply, [], 0, 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed: the end
            while True:
                connection, _ = self._listening.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            while request := self._request(connection):
                self.requests.append(request)
                for part in [self.reply] if isinstance(self.reply, bytes) else self.reply():
                    connection.sendall(part)
                    self.sent += len(part)
                if not isinstance(self.reply, bytes):
                    return

    @staticmethod
    def _request(connection: socket.socket) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (received := connection.recv(65536)):
                return b""
            head += received
        head, _, body = head.partition(b"\r\n\r\n")
        lengths = [line.split()[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        length = int(lengths[0]) if lengths else 0
        while len(body) < length:
            body += connection.recv(65536)
        return head + b"\r\n\r\n" + body

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@contextmanager
def serving(reply) -> Iterator[RawServer]:
    server = RawServer(reply)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    for name in ("HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def answer(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def drip(beginning: bytes, piece: bytes, pause: float = 0.05, count: int = 100):
    """Five seconds of bytes, each in time for a socket's time-out."""

    def parts():
        yield beginning
        for _ in range(count):
            time.sleep(pause)
            yield piece

    return parts


def endless():
    yield CHUNKED
    for _ in range(5000):
        yield b"10000\r\n" + b" " * 65536 + b"\r\n"


GIVEN_UP = r"gave no rewards in [1-9] attempts and [0-2] s \("
WANTED = r'; expected \{"rewards": \[…\]\} with 1 numbers$'
UNSCORED = " for completion 0 of a batch of 1; expected a finite number, or null for what cannot be scored$"

FAULTS = {
    # what may pass is tried again until the deadline, whatever keeps arriving
    "headers drip": (drip(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a"), GIVEN_UP + r"no complete answer in 0\.4 s;"),
    "body drips": (drip(CHUNKED, b"1\r\n \r\n"), GIVEN_UP + r"no complete answer in 0\.4 s;"),
    "interim answers drip": (drip(b"", b"HTTP/1.1 102 Processing\r\n\r\n"), GIVEN_UP + "no complete answer in "),
    "error drips": (drip(b"HTTP/1.1 500 Oops\r\n\r\n", b"x"), GIVEN_UP + "no complete answer in "),
    "closes early": (lambda: [b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{"rew'], GIVEN_UP + "RemoteProtocolError"),
    "closes at once": (list, GIVEN_UP + r"RemoteProtocolError: Server disconnected"),
    "garbage status line": (
        lambda: [b"SSH-2.0-" + TOKEN.encode() + b"\r\n\r\n"],
        GIVEN_UP + r"RemoteProtocolError: illegal status line: bytearray\(b'SSH-2\.0-\*\*\*",
    ),
    "half of an answer": (answer(b'{"rewards": [0.'), GIVEN_UP + "the answer is not JSON, or not all of it"),
    "error 503": (answer(b"busy", b"503 Busy"), GIVEN_UP + "HTTP 503 busy"),
    # everything else is refused at once
    "endless body": (endless, "sent more than 1001000 bytes for one batch; expected only its rewards$"),
    "deep nesting": (answer(b'{"rewards":' + b"[" * 400_000), "nested too deeply" + WANTED),
    "deep nesting in an error": (answer(b"[" * 50_000, b"400 Bad"), r"refused the request: HTTP 400 \[{200}$"),
    "NaN": (answer(b'{"rewards": [NaN]}'), "returned nan" + UNSCORED),
    "Infinity": (answer(b'{"rewards": [-Infinity]}'), "returned -inf" + UNSCORED),
    "1e999": (answer(b'{"rewards": [1e999]}'), "returned inf" + UNSCORED),
    "integer of 400 digits": (answer(b'{"rewards": [%b]}' % (b"9" * 400)), "returned inf" + UNSCORED),
    "integer of 5,000 digits": (answer(b'{"rewards": [%b]}' % (b"9" * 5000)), "returned inf" + UNSCORED),
    "integer of 5,000 digits beside": (answer(b'{"a": %b}' % (b"9" * 5000)), "an object with a .number." + WANTED),
    "boolean": (answer(b'{"rewards": [true]}'), "returned True" + UNSCORED),
    "text": (answer(b'{"rewards": ["0.5"]}'), "returned '0.5'" + UNSCORED),
    "list": (answer(b'{"rewards": [[0.5, 0.6]]}'), "returned a list of 2" + UNSCORED),
    "wrong length": (answer(b'{"rewards": [1, 2]}'), "answered 2 rewards" + WANTED),
    "no rewards": (answer(b'{"rewards": []}'), "answered 0 rewards" + WANTED),
    "null": (answer(b'{"rewards": null}'), r"answered an object with rewards \(None\)" + WANTED),
    "error behind 200": (answer(b'{"error": {"message": "out of memory"}}'), "answered out of memory" + WANTED),
    "echo behind 200": (answer(b'{"query": ["private"]}'), r"answered an object with query \(list\)" + WANTED),
    "list of texts": (answer(b'["private"]'), "answered a list of 1" + WANTED),
    "HTML behind 200": (answer(b"<html>\n<b>Log in</b>"), "answered <html> <b>Log in</b>" + WANTED),
    "not UTF-8": (answer(b"\xff\xfe\xff"), "answered .*" + WANTED),
    "token in an error": (
        answer(b'{"detail": "no\\nuser %b\\u001b[2J"}' % TOKEN.encode(), b"403 No"),
        r"refused the request: HTTP 403 no user \*\*\*",
    ),
    "part of the token": (answer(b"key sk-12345*****efgh", b"401 No"), r"HTTP 401 key \*\*\*$"),
    "token as a reward": (answer(b'{"rewards": ["%b"]}' % TOKEN.encode()), r"returned '\*\*\*'" + UNSCORED),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_in_time_and_without_the_token(fault, caplog):
    reply, message = FAULTS[fault]
    render_reward_text(CHAT)  # imports transformers, in its own time
    transient = message.startswith(GIVEN_UP)
    # an answer that says what is wrong comes at once, but on a busy machine not within 0.4 s
    patience = {"timeout": 0.4, "deadline": 1.5} if transient else {"timeout": 3.0, "deadline": 3.5}
    with serving(reply) as server:
        started = time.monotonic()
        with pytest.raises(RewardSourceError) as told:
            RewardFunction(f"{server.url}/get_reward", **patience).score([CHAT])
        assert time.monotonic() - started < 4
        # what an attempt failed of is logged; the last one, with little time left, may fail otherwise
        assert re.search(GIVEN_UP if transient else message, str(told.value))
        assert not transient or re.search(message.removeprefix(GIVEN_UP), caplog.text)
        assert transient or len(server.requests) == 1
        assert server.sent < 50_000_000
        assert TOKEN.encode() in server.requests[0]
    shown = "".join(traceback.format_exception(told.value)) + caplog.text
    assert "12345" not in shown and len(str(told.value).splitlines()) == 1 and len(str(told.value)) < 400
    assert str(told.value).isprintable()


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308])
def test_no_redirect_is_followed(status):
    with serving(GOOD) as other:
        head = (
            f"HTTP/1.1 {status} Elsewhere\r\nLocation: {other.url}/score?{TOKEN}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        with serving(head) as server:
            with pytest.raises(
                RewardSourceError, match=rf"a redirect \(HTTP {status}\), which is not followed"
            ) as told:
                RewardFunction(server.url).score([CHAT])
            assert len(server.requests) == 1 and TOKEN not in str(told.value)
        assert other.connections == 0


def test_every_user_of_a_server_is_told_the_same():
    with serving(answer(b'{"rewards": [NaN]}')) as server:
        with pytest.raises(RewardSourceError, match=f"server {server.url[7:]} returned nan" + UNSCORED):
            RewardFunction(server.url)(prompts=["q"], completions=["a"])
        with pytest.raises(UserError, match=r"returned nan .* scored before is kept, run the same command again"):
            score_all(load_scorer(server.url), [Group("1", CHAT[:1], ["4"])])


def test_the_first_error_ends_the_other_requests():
    replies = iter([answer(b"no", b"403 No")])

    def first_refused_others_hang():
        yield next(replies, b"")
        time.sleep(3)

    render_reward_text(CHAT)
    with serving(first_refused_others_hang) as server:
        started = time.monotonic()
        with pytest.raises(RewardSourceError, match="HTTP 403 no"):
            RewardFunction(server.url, batch_size=1).score([CHAT] * 9)
        assert time.monotonic() - started < 2.5


def test_connections_are_kept_between_batches_and_calls():
    with serving(GOOD) as server:
        reward = RewardFunction(server.url, batch_size=1, concurrency=1).score
        assert reward([CHAT] * 3) == [0.5] * 3 and reward([CHAT] * 2) == [0.5] * 2
        assert (len(server.requests), server.connections) == (5, 1)


def test_a_notebook_whose_thread_runs_an_event_loop_can_ask():
    async def cell():
        return RewardFunction(server.url).score([CHAT])

    with serving(GOOD) as server:
        assert asyncio.run(cell()) == [0.5]


def test_the_environments_proxy_is_asked_except_for_this_machine(monkeypatch):
    with serving(GOOD) as proxy, serving(GOOD) as here:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert RewardFunction("http://rewards.invalid/get_reward").score([CHAT]) == [0.5]
        assert proxy.requests[0].startswith(b"POST http://rewards.invalid/get_reward HTTP/1.1\r\n")
        assert RewardFunction(here.url).score([CHAT]) == [0.5] and len(here.requests) == 1 == len(proxy.requests)
        monkeypatch.setenv("HTTP_PROXY", "gopher://user:pw@proxy:1")
        with pytest.raises(RewardSourceError, match=r"the proxy that the environment names .* NO_PROXY$"):
            RewardFunction("http://rewards.invalid/get_reward")
        monkeypatch.setenv("NO_PROXY", "rewards.invalid")
        RewardFunction("http://rewards.invalid/get_reward")


@pytest.mark.parametrize(("token", "place"), [("s3cret\n", "7 of 7"), ("s3crét", "5 of 6"), ("s3 cret", "3 of 7")])
def test_a_token_that_cannot_be_sent_is_refused_before_anything_is_asked(token, place, monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    with pytest.raises(
        RewardSourceError, match=f"^character {place} in the environment variable {TOKEN_VARIABLE} cannot"
    ) as told:
        RewardFunction("http://127.0.0.1:9")
    assert "s3" not in str(told.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://",
        "http://[::1",
        "http://h:k3y",
        "http://h:70000/k3y",
        "http://h/k3y\n",
        "http://a..k3y/",
        "http://?k3y",
        "http://me:k3y@h\u2100/",
        "http://h k3y",
    ],
)
def test_an_address_that_cannot_be_asked_is_refused_without_repeating_it(address, tmp_path):
    from tests.evaluation.evaluation_tiny import evaluate_model

    pairs = tmp_path / "judge.jsonl"
    pairs.write_text(
        '{"pair_id": "1", "source": "mmlu-pro", "question": "q", "response_A": "a", "response_B": "b", "label": "A>B"}\n'
    )
    for use in (
        lambda: RewardFunction(address),
        lambda: evaluate_model(address, tmp_path / "out", benchmarks=[f"judge_bench={pairs}"]),
    ):
        with pytest.raises(UserError, match=r"expected http\(s\)://HOST\[:PORT\]/PATH") as told:
            use()
        assert "k3y" not in str(told.value)


def test_keys_in_an_address_are_repeated_nowhere(caplog):
    caplog.set_level("INFO")

    def not_found():
        yield answer(b"Cannot POST " + server.requests[-1].split()[1] + b" (try k3y k3y k3y)", b"404 No")

    with serving(not_found) as server:
        reward = RewardFunction(f"{server.url}?key=k3y%20k3y%20k3y/k3yk3yk3y", deadline=0.5)
        with pytest.raises(
            RewardSourceError, match=r"refused the request: HTTP 404 Cannot POST /\?\*\*\* \(try \*\*\*\)$"
        ) as told:
            reward(prompts=["q"], completions=["a"])
    assert reward.__name__ == server.url[7:]
    assert "k3y" not in "".join(traceback.format_exception(told.value)) + caplog.text
