"""Jobs that a caller's thread or event loop puts one by one, and the background loop does."""

from __future__ import annotations

from asyncio import TaskGroup
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from llmengine.engine.channel import Channel
from llmengine.engine.sync import LoopWakeup

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from llmengine.engine.sync import Wakeup
    from llmengine.transport.loop import Background


J = TypeVar("J")
R = TypeVar("R")


class JobQueue(Generic[J, R]):
    """Does jobs on the background loop, ``workers`` at once, and hands back their results.

    ``worker`` is called once on the loop and returns the function that does a job, which must not
    raise. Jobs and results cross between the threads in groups: a switch costs more than most of
    the work for one job. The queue has no limit; its user counts the jobs that are put and not
    taken yet. With ``in_order``, the results are in the order of the jobs, otherwise in the order
    in which they are ready.
    """

    def __init__(
        self,
        loop: Background,
        worker: Callable[[], Callable[[J], Awaitable[R]]],
        workers: int,
        wakeup: Wakeup,
        *,
        in_order: bool,
    ) -> None:
        self._jobs: Channel[J] = Channel(LoopWakeup(loop.loop))
        self._results: Channel[R] = Channel(wakeup)
        self._worker = worker
        self._workers = workers
        self._in_order = in_order
        # Used on the loop only: jobs that no task has begun yet, and results that are not due yet.
        self._waiting: deque[J] = deque()
        self._begun = self._due = 0
        self._early: dict[int, R] = {}
        self._results.start(loop, self._run)

    def put(self, job: J) -> None:
        """Add a job."""
        self._jobs.put((job,))

    async def take(self, seconds: float | None = None) -> list[R]:
        """All results that are ready, at least one; [] if none came within that many seconds.

        Raises CallError if the jobs cannot be done, such as after `shutdown`.
        """
        return await self._results.take(seconds)

    def close(self) -> None:
        """Take no more results, and cancel the jobs that are under way."""
        self._results.close()

    async def _run(self) -> None:
        do = self._worker()
        active = 0

        async def work() -> None:
            nonlocal active
            while self._waiting:
                place = self._begun
                self._begun += 1
                result = await do(self._waiting.popleft())
                self._results.put(self._ready(place, result) if self._in_order else (result,))
            active -= 1

        async with TaskGroup() as group:
            while True:
                self._waiting.extend(await self._jobs.take())
                for _ in range(min(len(self._waiting), self._workers - active)):
                    active += 1
                    group.create_task(work())

    def _ready(self, place: int, result: R) -> Sequence[R]:
        """The results that are due now that the one of the job at that place is ready."""
        self._early[place] = result
        ready = []
        while self._due in self._early:
            ready.append(self._early.pop(self._due))
            self._due += 1
        return ready
