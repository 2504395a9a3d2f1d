"""Connections on real sockets: what asks for nothing, too slowly, too much, or in a way that two servers read differently.

These fail where uvicorn changes what `wildreward.scoring.server.connections` builds on.
"""

import asyncio
import errno
import http.client
import json
import logging
import socket
import time
from contextlib import ExitStack

import pytest

from tests.scoring.storm import HALVES, Half, ask, raw
from tests.scoring.test_serving import CHATS, Served, Slow, fresh_scorer
from wildreward.scoring.server.connections import SPARE, _LoopErrors, connections_within_files
from wildreward.scoring.server.limits import Limits

LINES = b"POST /score HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(scope="module")
def served():
    limits = Limits(max_connections=4, head_seconds=0.5, idle_seconds=1, max_head=4000, max_body=1_000_000)
    with Served(fresh_scorer(), limits) as running:
        yield running


def answered(data):
    """Status and JSON of a raw answer."""
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize("sent", HALVES)
def test_a_head_that_does_not_come_is_given_up(served, sent):
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as slow:
        slow.sendall(sent)
        said = slow.recv(65536)
    assert time.monotonic() - start < 5
    assert (
        said == b"" if not sent else answered(said) == (408, {"error": "the request's headers took longer than 0.5 s"})
    )


def test_a_head_that_comes_byte_by_byte_is_given_up_too(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as slow:
        with pytest.raises(OSError):
            for _ in range(100):
                slow.sendall(b"G")
                time.sleep(0.05)


def test_the_second_request_of_a_connection_has_its_time_too(served):
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    for _ in range(2):
        connection.request("POST", "/score", json.dumps({"messages": CHATS[:1]}))
        assert connection.getresponse().read().startswith(b'{"scores"')
    connection.sock.sendall(b"POST /sco")
    assert answered(connection.sock.recv(65536))[0] == 408
    connection.close()


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"Content-Length: 2, 2\r\n\r\n{}",
        b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
        b"Content-Length:\r\n 2\r\n\r\n{}",
        b"Transfer-Encoding: xchunked\r\n\r\n{}",
        b"Content-Length : 2\r\n\r\n{}",
        b"Content-Length: +2\r\n\r\n{}",
        b"Content-Length: 2\nX: y\n\n{}",
    ],
)
def test_what_two_servers_could_read_differently_is_refused(served, head):
    assert answered(raw(served.port, LINES + head)) == (400, {"error": "the request is not valid HTTP"})


def test_heads_that_are_too_large_are_refused(served):
    for count in (1, 50):  # complete, or without end
        head = LINES + b"X: " + b"y" * 5000 * count + (b"\r\n\r\n" if count == 1 else b"")
        assert answered(raw(served.port, head)) == (431, {"error": "the request's headers are larger than 4000 bytes"})
    chunked = LINES + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(chunked)
        with pytest.raises(OSError):
            for _ in range(200):  # trailers without end
                connection.sendall(b"X: " + b"y" * 997 + b"\r\n")
                time.sleep(0.002)
    assert served.ask("/health")[0] == 200


def test_a_refused_body_is_read_to_its_end_so_that_the_refusal_is(served):
    assert served.ask("/score", b" " * 3_000_000)[:2] == (
        413,
        {"error": "the body is larger than 1000000 bytes; send fewer conversations at once"},
    )


def test_whoever_asks_gets_the_place_of_one_that_does_not(served):
    with ExitStack() as stack:
        halves = [stack.enter_context(socket.create_connection(("127.0.0.1", served.port))) for _ in range(12)]
        for half in halves:
            half.sendall(b"POST /sc")
        expected = fresh_scorer().score(CHATS[:2])
        status, answer, _ = served.ask("/score", {"messages": CHATS[:2]})
        assert status == 200 and answer["scores"] == pytest.approx(expected, abs=1e-5)


def test_a_burst_of_requests_loses_none_of_them():
    request = json.dumps({"messages": CHATS[:1]}).encode()
    head = LINES + f"Content-Length: {len(request)}\r\nConnection: close\r\n\r\n".encode()
    with Served(fresh_scorer(), Limits(max_connections=4)) as server, ExitStack() as stack:
        burst = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(4)]
        for connection in burst:
            connection.sendall(head + request)
        assert [connection.recv(65536).split()[1] for connection in burst] == [b"200"] * 4


def test_where_all_connections_are_busy_health_is_still_answered():
    scorer = Slow()
    with Served(scorer, Limits(max_connections=2)) as server, ExitStack() as stack:
        busy = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in range(2)]
        for connection in busy:
            connection.request("POST", "/score", json.dumps({"messages": CHATS[:1]}))
            assert scorer.computing.wait(60)  # the first alone; the second waits
        time.sleep(0.5)
        assert server.ask("/health")[1]["waiting"] == 1
        status, answer, headers = server.ask("/score", {"messages": CHATS[:1]})
        assert (status, answer) == (503, {"error": "too many connections are open; try again later"})
        assert headers["Retry-After"] == "1" and headers["Connection"] == "close"
        for _ in range(2 * SPARE):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        assert server.ask("/health")[0] == 200
        scorer.let.set()
        assert [connection.getresponse().status for connection in busy] == [200, 200]
        for connection in busy:
            connection.close()


def test_bodies_are_bounded_together_and_the_one_that_stands_still_gives_way():
    with Served(fresh_scorer(), Limits(max_body=3_000_000, max_uploads=4_000_000)) as server:
        head = LINES + b"Content-Length: 2900000\r\n\r\n"
        stale = Half(server.port, head, 2_900_000)
        while stale.left:
            stale.goes_on()
        time.sleep(0.2)
        assert server.ask("/score", {"messages": CHATS[:1]})[0] == 200  # small ones are not counted
        long = [{"role": "user", "content": "a" * 900_000}, CHATS[0][-1]]
        assert server.ask("/score", {"messages": [long] * 3})[0] == 200
        stale.socket.setblocking(True)
        said = answered(stale.socket.recv(65536))
        stale.socket.close()
    assert said == (429, {"error": "the bodies under way are larger than 4000000 bytes together; try again later"})


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (
            "/score",
            {"messages": [CHATS[0], [{"role": "user", "content": "a" * 1001}, CHATS[0][-1]]]},
            "messages 1 has 1023 characters; a conversation may have at most 1000",
        ),
        (
            "/score",
            {"messages": [CHATS[0][:1] * 50 + CHATS[0]]},
            "messages 0 has 52 messages; a conversation may have at most 50",
        ),
        ("/get_reward", {"query": ["a" * 1001]}, "query 0 has 1001 characters; a conversation may have at most 1000"),
        ("/score", {"messages": [[]] * 400}, "the body has more than 700 values; send fewer conversations at once"),
    ],
)
def test_conversations_are_bounded_before_they_are_tokenized(path, body, said):
    with Served(fresh_scorer(), Limits(max_characters=1000, max_messages=50, max_values=700)) as server:
        assert ask(server.port, path, body)[:2] == (413, {"error": said})


def test_texts_count_once_whatever_is_in_them():
    text = json.dumps({"messages": [[{"role": "user", "content": '[{,"\\' * 2000}, CHATS[0][-1]]]})
    with Served(fresh_scorer(), Limits(max_values=20)) as server:
        assert ask(server.port, "/score", text.encode())[0] == 200


def test_as_many_connections_as_files_allow(monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda which: (200, 200))
    assert connections_within_files(1000) == 200 - 112
    assert connections_within_files(5) == 5


def test_files_that_run_out_are_told_once(caplog):
    loop = asyncio.new_event_loop()
    told = _LoopErrors()
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            error = OSError(errno.EMFILE, "Too many open files")
            told(loop, {"message": "socket.accept() out of system resource", "exception": error})
    loop.close()
    assert [record.getMessage() for record in caplog.records] == [
        "connections have to wait: [Errno 24] Too many open files"
    ]


def test_requests_sent_ahead_without_end_are_not_kept(served):
    """Honest ones are answered; who reads no answer and sends on loses the connection, and others notice nothing."""
    request = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as honest:
        honest.sendall(request * 50)
        answers = b""
        while answers.count(b"HTTP/1.1 200") < 50:
            answers += honest.recv(65536)
    flood = socket.socket()
    flood.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    flood.settimeout(5)
    with flood, pytest.raises(ConnectionError):
        flood.connect(("127.0.0.1", served.port))
        for _ in range(2_000):
            flood.sendall(request * 1_000)
    assert served.ask("/health")[0] == 200


def test_a_slash_too_many_is_not_found(served):
    status, _, headers = served.ask("/score/", {"messages": []}, {"Host": "elsewhere.example"})
    assert status == 404 and "location" not in headers
