"""The hand-over of items between the background loop and a caller's thread or event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from llmengine.engine.call import as_llm_error
from llmengine.engine.sync import LoopWakeup
from llmengine.types.errors import CallError, LLMEngineError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from concurrent.futures import Future

    from llmengine.engine.sync import Wakeup
    from llmengine.transport.loop import Background


T = TypeVar("T")


class Channel(Generic[T]):
    """A queue with one producer and one consumer, which may belong to different threads.

    ``wakeup`` is the consumer's. The consumer takes everything that waits at once, and is woken
    only if it waits, so that a fast producer costs few switches between threads. The queue takes
    everything; a producer that must not run ahead of its consumer awaits `room` while `is_full`,
    which it is with ``size`` items.
    """

    __slots__ = (
        "_consumer",
        "_ended",
        "_error",
        "_is_waiting",
        "_items",
        "_lock",
        "_process",
        "_producer",
        "_size",
        "_task",
    )

    def __init__(self, wakeup: Wakeup, size: int | None = None) -> None:
        # Reentrant, because the garbage collector may close this channel in the middle of a `put`.
        self._lock = threading.RLock()
        self._items: list[T] = []
        self._size = size
        self._consumer = wakeup
        self._is_waiting = False  # whether the consumer waits
        self._producer: LoopWakeup | None = None  # set while the producer waits
        self._ended = False
        self._error: LLMEngineError | None = None
        self._process = os.getpid()
        self._task: asyncio.Task[object] | None = None  # the producer, if `start` started it

    def start(self, loop: Background, producer: Callable[[], Awaitable[None]]) -> None:
        """Start the producer on the background loop; when it ends, however it does, so does this.

        `close` cancels it, also if this call was interrupted.
        """

        def end(done: Future[None]) -> None:
            raised = None if done.cancelled() else done.exception()
            if isinstance(raised, Exception):
                self.end(as_llm_error(raised))
            elif raised is None and not done.cancelled():
                self.end()
            else:
                self.end(CallError("llmengine was shut down before the answer was complete"))

        loop.submit(self._run(producer)).add_done_callback(end)

    async def _run(self, producer: Callable[[], Awaitable[None]]) -> None:
        with self._lock:
            is_closed, self._task = self._ended, asyncio.current_task()
        if not is_closed:
            await producer()

    # ---- the producer

    @property
    def is_full(self) -> bool:
        """Whether as many items wait as the producer may run ahead."""
        return self._size is not None and len(self._items) >= self._size

    def put(self, items: Sequence[T]) -> None:
        """Add items in order; they are dropped if the channel has ended."""
        with self._lock:
            if items and not self._ended:
                self._items.extend(items)
                self._wake()

    async def room(self) -> None:
        """Wait until the consumer has taken what waits now; for a producer on an event loop."""
        wakeup = LoopWakeup(asyncio.get_running_loop())
        with self._lock:
            if self._ended or not self.is_full:
                return
            wakeup.clear()
            self._producer = wakeup
        await wakeup.wait()

    def end(self, error: LLMEngineError | None = None) -> None:
        """Say that nothing more comes; the consumer gets the error after the items.

        Only the first call counts.
        """
        with self._lock:
            if not self._ended:
                self._ended, self._error = True, error
                self._wake()

    def _wake(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._consumer.set()

    # ---- the consumer

    async def take(self, seconds: float | None = None) -> list[T]:
        """All items that wait, at least one; [] if the channel has ended without an error.

        With ``seconds``, it is [] too if none came for so long. Raises the producer's error once
        all items are taken.
        """
        # A forked child has no background loop, and its copy of the lock may be locked for ever.
        if os.getpid() != self._process:
            raise CallError(
                "the answers to calls that were begun before a fork come to the parent process "
                "only; begin the call again in the child"
            )
        while True:
            with self._lock:
                items = self._take()
                if items or self._ended:
                    break
                self._consumer.clear()
                self._is_waiting = True
            await self._consumer.wait(seconds)
            if seconds is not None:
                with self._lock:
                    self._is_waiting = False
                    items = self._take()
                break
        if not items and self._error is not None:
            raise self._error
        return items

    def close(self) -> None:
        """Take no more: drop what waits and all that comes later, and cancel the producer."""
        if os.getpid() != self._process:
            return
        with self._lock:
            self._ended, self._is_waiting = True, False
            self._take()
            task = self._task
        if task is not None and not task.done():
            with suppress(RuntimeError):  # the loop has been closed
                task.get_loop().call_soon_threadsafe(task.cancel)

    def _take(self) -> list[T]:
        items, self._items = self._items, []
        if self._producer is not None:
            self._producer.set()
            self._producer = None
        return items
