"""How many requests may be under way at once: less after the server says "too many", more again while all goes well."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable


class AdaptiveLimit:
    """A semaphore whose size follows the server.

    A refusal for load halves the number of requests under way and holds new ones back, for as long as the server asks
    or else for a growing pause. Refusals of requests that were sent before that cut belong to the same burst and do not
    cut again. Every good answer gives a little back: a full recovery from half takes eight rounds of answers.

    Args:
        maximum: the most requests under way at once, also the start.
        first_pause, longest_pause: seconds to hold back when the server names no time: doubled with every burst.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        maximum: int,
        first_pause: float = 1.0,
        longest_pause: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.maximum = maximum
        self.limit = float(maximum)
        self.under_way = 0
        self._first_pause, self._longest_pause = first_pause, longest_pause
        self._bursts_in_a_row = 0
        self._clock = clock
        self._last_cut = self._open_at = -float("inf")
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self) -> float:
        """Wait for room, take a place and return the time it was taken; give that to `throttled`."""
        if self._waiting or not self._has_room():
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            self._admit()
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self.release()
                raise
        else:
            self.under_way += 1
        return self._clock()

    def release(self) -> None:
        """Give a place back."""
        self.under_way -= 1
        self._admit()

    def throttled(self, sent_at: float, retry_after: float | None = None) -> None:
        """The server refused a request, sent at `sent_at`, for load, and may have said how long to wait."""
        now = self._clock()
        if sent_at > self._last_cut:
            self.limit = max(1.0, self.limit / 2)
            self._last_cut = now
            if retry_after is None:
                pause = min(self._longest_pause, self._first_pause * 2**self._bursts_in_a_row)
                retry_after = pause * random.uniform(0.75, 1.25)
            self._bursts_in_a_row += 1
        if retry_after is not None:
            self._open_at = max(self._open_at, now + retry_after)

    def succeeded(self) -> None:
        """The server answered a request."""
        self._bursts_in_a_row = 0
        if self.limit < self.maximum:
            self.limit = min(float(self.maximum), self.limit + max(1.0, self.maximum / 16) / self.limit)
            self._admit()

    def _has_room(self) -> bool:
        return self.under_way < int(self.limit) and self._clock() >= self._open_at

    def _admit(self) -> None:
        while self._waiting and self._has_room():
            place = self._waiting.popleft()
            if not place.done():
                self.under_way += 1
                place.set_result(None)
        wait = self._open_at - self._clock()
        if self._waiting and wait > 0 and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait, self._reopen)

    def _reopen(self) -> None:
        self._timer = None
        self._admit()
