"""The clocks by which a mock server waits: the real one, and one that a test moves."""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol


class MockClock(Protocol):
    """The time of a mock server, in which it waits for delays and between tokens."""

    @property
    def now(self) -> float:
        """The seconds since some moment."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds."""
        ...


class RealClock:
    """Waits in real time."""

    @property
    def now(self) -> float:
        """The seconds since some moment."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds."""
        await asyncio.sleep(seconds)


@dataclass(order=True, slots=True)
class _Sleeper:
    """A request that waits until a time; ``number`` keeps the order of those that wake at once."""

    wakes_at: float
    number: int
    loop: asyncio.AbstractEventLoop = field(compare=False)
    awake: asyncio.Future[None] = field(compare=False)


# How many rounds of the event loop a request that has woken up gets before time goes on.
_ROUNDS = 25
_LOOK_EVERY = 0.001
# Real seconds after which a server that does not go on is an error.
_PATIENCE = 10.0


class ManualClock:
    """A clock that stands still until a test moves it, so that no test waits in real time.

    ``MockServer(load=Load(...), clock=clock)`` waits by it for delays, first tokens, tokens and
    stalls. `wait_for_sleepers` returns when the server waits, and `advance` moves the time.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._lock = threading.Lock()
        self._sleepers: list[_Sleeper] = []
        self._numbers = count()

    @property
    def now(self) -> float:
        """The seconds since the clock was made."""
        return self._now

    @property
    def sleepers(self) -> int:
        """The number of requests that wait for the clock."""
        with self._lock:
            return sum(not sleeper.awake.done() for sleeper in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Wait until the test has moved the clock by so many seconds."""
        if seconds <= 0:
            return
        loop = asyncio.get_running_loop()
        with self._lock:
            wakes_at = self._now + seconds
            sleeper = _Sleeper(wakes_at, next(self._numbers), loop, loop.create_future())
            heapq.heappush(self._sleepers, sleeper)
        await sleeper.awake

    def wait_for_sleepers(self, number: int, timeout: float = _PATIENCE) -> None:
        """Return when so many requests wait for the clock; raises TimeoutError in real seconds."""
        end = time.monotonic() + timeout
        while (found := self.sleepers) != number:
            if time.monotonic() > end:
                raise TimeoutError(f"{found} requests wait for the clock, and not {number}")
            time.sleep(_LOOK_EVERY)

    def advance(self, seconds: float) -> None:
        """Move the clock; what happens in these seconds happens in its order."""
        if seconds < 0:
            raise ValueError(f"advance: seconds is {seconds!r}; time does not go back")
        target = self._now + seconds
        while (sleeper := self._next_until(target)) is not None:
            self._now = max(self._now, sleeper.wakes_at)
            asyncio.run_coroutine_threadsafe(_wake(sleeper.awake), sleeper.loop).result(_PATIENCE)
        self._now = target

    def _next_until(self, time: float) -> _Sleeper | None:
        with self._lock:
            while self._sleepers and self._sleepers[0].wakes_at <= time:
                sleeper = heapq.heappop(self._sleepers)
                if not sleeper.awake.done() and not sleeper.loop.is_closed():
                    return sleeper
            return None


async def _wake(awake: asyncio.Future[None]) -> None:
    """Wake a request up, and let it go on until it waits again."""
    if not awake.done():
        awake.set_result(None)
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)
