"""Hedges: a prompt is given to a second engine too if the first one takes unusually long."""

from __future__ import annotations

import asyncio
from collections import deque
from math import ceil
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from llmengine.engine.call import CallObserver
    from llmengine.engine.channel import Channel
    from llmengine.types.outputs import Delta
    from llmengine.types.results import Result


class CallEnding(Protocol):
    """How a call ended; ``reason`` says why another engine is needed, if one is."""

    @property
    def result(self) -> Result | None:
        """The result of the call; None for a stream, which has none."""
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

    async def wait(self, delay: float | None, begun: asyncio.Future[None] | None = None) -> bool:
        """Wait until the call has ended, or until so many seconds have passed since it was sent.

        For a stream it is enough that it has ``begun``. Returns whether this was in time. The time
        in which the call waits for its turn does not count.
        """
        ends: list[asyncio.Future[Any]] = [self.task] if begun is None else [self.task, begun]
        await asyncio.wait([*ends, self._sent], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait(ends, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
        return any(end.done() for end in ends)

    @property
    def spent(self) -> Result | None:
        """The result of a call that was cancelled; None if it had sent nothing."""
        return self._spent if self.task.cancelled() else self.task.result().result


async def first_final(
    calls: Sequence[HedgedCall[E]], begun: asyncio.Future[None] | None = None
) -> list[E]:
    """The endings of the calls up to the first one that needs no other engine, or of all.

    It is also enough that one of the streams has ``begun``.
    """
    running = list(calls)
    endings: list[E] = []
    while running:
        ends: list[asyncio.Future[Any]] = [call.task for call in running]
        if begun is not None:
            ends.append(begun)
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        endings += [call.task.result() for call in running if call.task.done()]
        running = [call for call in running if not call.task.done()]
        has_begun = begun is not None and begun.done()
        if has_begun or any(ending.reason is None for ending in endings):
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


class StreamChoice:
    """Streams of which only one goes on to the channel: the first one that has content."""

    def __init__(self, deltas: Channel[Delta]) -> None:
        self.chosen: int | None = None
        self.begun: asyncio.Future[None] | None = None  # for those who wait for content
        self._deltas = deltas
        self._sinks: dict[int, BufferedSink] = {}

    def sink(self, place: int) -> BufferedSink:
        """The sink for the deltas of the stream with that number."""
        return self._sinks.setdefault(place, BufferedSink(self, place, self._deltas))

    def choose(self, place: int) -> bool:
        """Choose that stream unless another one is chosen; returns whether it is the chosen one."""
        if self.chosen is None:
            self.chosen = place
            if self.begun is not None:
                self.begun.set_result(None)
        return self.chosen == place


class BufferedSink:
    """Keeps the deltas of one stream until it is chosen, and passes the later ones on."""

    def __init__(self, choice: StreamChoice, place: int, deltas: Channel[Delta]) -> None:
        self._choice = choice
        self._place = place
        self._deltas = deltas
        self._kept: list[Delta] = []
        self._is_open = False

    @property
    def is_full(self) -> bool:
        """Whether as many deltas wait as the stream may run ahead."""
        return self._is_open and self._deltas.is_full

    def put(self, items: Sequence[Delta]) -> None:
        """Add deltas in order; the first content decides whether the stream is chosen."""
        if self._is_open:
            self._deltas.put(items)
            return
        self._kept += items
        if any(delta.has_content for delta in items):
            self.open()

    def open(self) -> None:
        """Pass on what was kept, unless another stream is chosen."""
        if self._choice.choose(self._place):
            self._is_open = True
            self._deltas.put(self._kept)
            self._kept = []

    async def room(self) -> None:
        """Wait until the deltas are taken."""
        await self._deltas.room()


def recent_times() -> deque[float]:
    """A list for the times of an engine's last answers."""
    return deque(maxlen=RECENT)
