"""How many requests may be under way: less after the server says "too many", more again while all goes well."""

import asyncio

import pytest

from wildreward.common.http import parse_retry_after
from wildreward.common.llm import client
from wildreward.common.llm.client import AdaptiveLimit


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(client, "time", clock)
    return clock


def test_one_burst_halves_once_and_a_later_one_again(clock):
    limit = AdaptiveLimit(128)
    sent = clock.now
    clock.now += 1
    for _ in range(128):
        limit.throttled(sent, retry_after=2.0)
    assert limit.size == 64
    clock.now += 2.5
    sent = clock.now
    clock.now += 1
    limit.throttled(sent, None)
    assert limit.size == 32


def test_the_size_is_what_may_be_under_way():
    async def main():
        limit, under_way, most = AdaptiveLimit(8), 0, []

        async def ask():
            nonlocal under_way
            async with limit:
                under_way += 1
                most.append(under_way)
                await asyncio.sleep(0)
                under_way -= 1

        for cut, size in ((False, 8), (True, 4), (True, 2)):
            if cut:
                await asyncio.sleep(0.001)
                limit.throttled(asyncio.get_running_loop().time(), retry_after=0)
            await asyncio.gather(*(ask() for _ in range(8)))  # what was cut goes as places are given back
            most.clear()
            await asyncio.gather(*(ask() for _ in range(40)))
            assert max(most) == size
        while limit.size < 8:
            limit.succeeded()
        most.clear()
        await asyncio.gather(*(ask() for _ in range(40)))
        assert max(most) == 8

    asyncio.run(main())


def test_nothing_is_sent_before_the_server_wants_it():
    async def main():
        limit = AdaptiveLimit(4)
        loop = asyncio.get_running_loop()
        async with limit:
            limit.throttled(loop.time(), retry_after=0.2)
        start = loop.time()
        async with limit, limit:
            assert loop.time() - start >= 0.19

    asyncio.run(main())


def test_recovery_takes_eight_rounds():
    limit = AdaptiveLimit(64)
    limit.throttled(1e9, retry_after=0)
    rounds = 0
    while limit.size < 64:
        for _ in range(int(limit.size)):
            limit.succeeded()
        rounds += 1
    assert 7 <= rounds <= 10


def test_the_limit_never_falls_below_one(clock):
    limit = AdaptiveLimit(3)
    for _ in range(5):
        clock.now += 1
        limit.throttled(clock.now, retry_after=0)
        clock.now += 1
    assert limit.size == 1


def test_without_retry_after_pauses_double_up_to_the_longest(clock):
    limit = AdaptiveLimit(128, first_pause=1, longest_pause=8)
    pauses = []
    for _ in range(6):
        clock.now += 100
        limit.throttled(clock.now, None)
        pauses.append(limit.opens_at - clock.now)
    for pause, nominal in zip(pauses, (1, 2, 4, 8, 8, 8), strict=True):
        assert 0.75 * nominal <= pause <= 1.25 * nominal


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_every_form(headers, seconds):
    assert parse_retry_after(headers) == seconds
