"""Hedges: a prompt is given to a second engine too if the first one takes unusually long."""

from __future__ import annotations

import asyncio
from collections import deque
from math import ceil
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from llmengine.engine.call import CallObserver
    from llmengine.types.results import Result


class CallEnding(Protocol):
    """How a call ended; ``reason`` says why another engine is needed, if one is."""

    @property
    def result(self) -> Result:
        """The result of the call."""
        ...

    @property
    def reason(self) -> str | None:
        """Why another engine is needed; None if none is."""
        ...


E = TypeVar("E", bound=CallEnding)

# How many of the last times count, and how many there must be to know a percentile.
RECENT = 256
_FEWEST = 20
# How many hedges may follow each other if there were none for a long time.
_BURST = 10.0


class HedgePolicy:
    """When a prompt is hedged, and how often.

    ``after`` is a number of seconds, or a percentile such as "p95" of the times of an engine's
    last answers. ``budget`` is the share of the prompts that may be hedged.
    """

    def __init__(self, after: float | str, budget: float) -> None:
        self._seconds = None if isinstance(after, str) else after
        self._share = int(after.removeprefix("p")) / 100 if isinstance(after, str) else 0.0
        self._budget = budget
        self._allowed = 0.0

    def note_prompt(self) -> None:
        """Note a prompt, which adds to the number of hedges that are allowed."""
        self._allowed = min(self._allowed + self._budget, _BURST)

    def delay(self, times: Iterable[float]) -> float | None:
        """Seconds to wait for an answer; None if it is not known yet what is unusually long."""
        if self._seconds is not None:
            return self._seconds
        ordered = sorted(times)
        if len(ordered) < max(_FEWEST, ceil(1 / (1 - self._share))):
            return None
        return ordered[ceil(self._share * len(ordered)) - 1]

    def take(self) -> bool:
        """Whether one more prompt may be hedged; if so, it is taken from the budget."""
        # The sum of twenty times 0.05 may be less than 1.
        if self._allowed < 1 - 1e-9:
            return False
        self._allowed -= 1
        return True


class HedgedCall(Generic[E]):
    """A call that runs as a task, so that it can be cancelled if another one is faster.

    The function that makes the call is given this object as the CallObserver of the call.
    """

    def __init__(self, make: Callable[[CallObserver], Coroutine[object, object, E]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._sent: asyncio.Future[None] = self._loop.create_future()
        self._sent_at = self._loop.time()
        self._ended_at: float | None = None
        self._spent: Result | None = None  # by a cancelled call
        self.task = self._loop.create_task(make(self))
        self.task.add_done_callback(self._end)

    def _end(self, _task: object) -> None:
        self._ended_at = self._loop.time()

    @property
    def seconds(self) -> float:
        """The time from its first request to its end, or until now."""
        ended_at = self._loop.time() if self._ended_at is None else self._ended_at
        return ended_at - self._sent_at

    def sent(self) -> None:
        """Note that a request is about to be sent."""
        if not self._sent.done():
            self._sent_at = self._loop.time()
            self._sent.set_result(None)

    def cancelled(self, result: Result) -> None:
        """Keep the result of the cancelled call."""
        self._spent = result

    async def wait(self, delay: float | None) -> bool:
        """Wait until the call has ended, or until so many seconds have passed since it was sent.

        Returns whether it has ended. The time in which it waits for its turn does not count.
        """
        await asyncio.wait((self.task, self._sent), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((self.task,), timeout=delay)
        return self.task.done()

    @property
    def spent(self) -> Result | None:
        """The result of a call that was cancelled; None if it had sent nothing."""
        return self._spent if self.task.cancelled() else self.task.result().result


async def first_final(calls: Sequence[HedgedCall[E]]) -> list[E]:
    """The endings of the calls up to the first one that needs no other engine, or of all."""
    running: set[asyncio.Task[E]] = {call.task for call in calls}
    endings: list[E] = []
    while running:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        endings += [call.task.result() for call in calls if call.task in done]
        if any(ending.reason is None for ending in endings):
            break
    return endings


async def cancel_running(calls: Sequence[HedgedCall[E]]) -> list[Result]:
    """Cancel the calls that have not ended; returns what they have spent."""
    running = [call for call in calls if not call.task.done()]
    for call in running:
        call.task.cancel()
    if running:
        await asyncio.wait([call.task for call in running])
    return [spent for call in running if (spent := call.spent) is not None]


def recent_times() -> deque[float]:
    """A list for the times of an engine's last answers."""
    return deque(maxlen=RECENT)
