"""The adaptive limit, on a clock of its own."""

import asyncio

import pytest

from wildreward.dataset_builder.labelers.endpoint import parse_retry_after
from wildreward.dataset_builder.labelers.rate import AdaptiveLimit


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_burst_halves_once_and_a_later_one_again():
    async def main():
        clock = Clock()
        limit = AdaptiveLimit(128, clock=clock)
        sent = [await limit.acquire() for _ in range(128)]
        clock.now += 1
        for at in sent:
            limit.throttled(at, retry_after=2.0)
            limit.release()
        assert limit.limit == 64
        clock.now += 2.5
        at = await limit.acquire()
        clock.now += 1
        limit.throttled(at)
        assert limit.limit == 32

    asyncio.run(main())


def test_nothing_is_sent_before_the_server_wants_it():
    async def main():
        limit = AdaptiveLimit(4)
        loop = asyncio.get_running_loop()
        limit.throttled(await limit.acquire(), retry_after=0.2)
        limit.release()
        start = loop.time()
        await asyncio.gather(*(limit.acquire() for _ in range(2)))
        assert loop.time() - start >= 0.19
        assert limit.under_way == 2

    asyncio.run(main())


def test_recovery_takes_eight_rounds():
    limit = AdaptiveLimit(64)
    limit.throttled(1e9, retry_after=0)
    rounds = 0
    while limit.limit < 64:
        for _ in range(int(limit.limit)):
            limit.succeeded()
        rounds += 1
    assert 7 <= rounds <= 10


def test_the_limit_never_falls_below_one():
    clock = Clock()
    limit = AdaptiveLimit(3, clock=clock)
    for _ in range(5):
        clock.now += 1
        limit.throttled(clock.now, retry_after=0)
        clock.now += 1
    assert limit.limit == 1


def test_without_retry_after_pauses_double_up_to_the_longest():
    clock = Clock()
    limit = AdaptiveLimit(128, first_pause=1, longest_pause=8, clock=clock)
    pauses = []
    for _ in range(6):
        clock.now += 100
        limit.throttled(clock.now)
        pauses.append(limit._open_at - clock.now)
    for pause, nominal in zip(pauses, (1, 2, 4, 8, 8, 8), strict=True):
        assert 0.75 * nominal <= pause <= 1.25 * nominal


def test_a_cancelled_wait_gives_its_place_back():
    async def main():
        limit = AdaptiveLimit(1)
        await limit.acquire()
        waiting = asyncio.create_task(limit.acquire())
        await asyncio.sleep(0)
        limit.release()  # the place goes to the waiting task …
        waiting.cancel()  # … which is cancelled before it runs
        await asyncio.gather(waiting, return_exceptions=True)
        assert limit.under_way == 0
        await asyncio.wait_for(limit.acquire(), 1)

    asyncio.run(main())


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
