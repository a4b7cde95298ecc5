"""One implementation for sync and async callers.

Every public operation is written once, as a coroutine or an async generator, and waits for the
background loop through a `Wait`. With `await_on` it suspends in the caller's event loop. With
`block_on` it blocks its thread and never suspends. So `run` and `iterate` can run it to its end
without an event loop, even inside a running one.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import AsyncGenerator, Coroutine, Generator
    from concurrent.futures import Future


T = TypeVar("T")


class Wakeup(Protocol):
    """An event for which one thread or task waits, and which any other thread sets.

    `set` is called at most once after each `clear`.
    """

    def clear(self) -> None:
        """Prepare the next `wait`; called by the one that waits."""
        ...

    async def wait(self, seconds: float | None = None) -> None:
        """Return once `set` was called, or after that many seconds."""
        ...

    def set(self) -> None:
        """Wake the one that waits, if it still does."""
        ...


class Wait(Protocol):
    """How a caller waits for the background loop: by blocking, or in its own event loop."""

    async def __call__(self, future: Future[T]) -> T:
        """The future's result; if the wait is interrupted or cancelled, so is the work."""
        ...

    def wakeup(self, producer: AbstractEventLoop) -> Wakeup:
        """A new event for this kind of caller, which is set on the producer's event loop."""
        ...


class ThreadWakeup:
    """The Wakeup of a thread, which blocks while it waits."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()  # locked while the event is not set

    def clear(self) -> None:
        """Prepare the next `wait`."""
        self._lock.acquire(blocking=False)

    async def wait(self, seconds: float | None = None) -> None:
        """Block until `set` was called, or for that many seconds."""
        self._lock.acquire(timeout=-1 if seconds is None else seconds)

    def set(self) -> None:
        """Wake the thread."""
        self._lock.release()


class _Mailbox:
    """The futures that other threads want to resolve on one event loop, in one call of the loop.

    Such a call costs a system call on both sides and a switch between the threads.
    """

    def __init__(self) -> None:
        # Reentrant, because the garbage collector may close a stream in the middle of `add`.
        self._lock = threading.RLock()
        self._futures: list[asyncio.Future[None]] = []

    def add(self, future: asyncio.Future[None], producer: AbstractEventLoop | None) -> None:
        """Resolve the future; `producer` is the running loop if other futures may come along."""
        with self._lock:
            is_first = not self._futures
            self._futures.append(future)
        if not is_first:
            return
        if producer is None:
            self._post(future.get_loop())
        else:
            producer.call_soon(self._post, future.get_loop())

    def _post(self, loop: AbstractEventLoop) -> None:
        try:  # noqa: SIM105 - `suppress` takes as long as the rest, for each event of a stream
            loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            pass  # the loop is closed, so nothing waits there any more

    def _deliver(self) -> None:
        with self._lock:
            futures, self._futures = self._futures, []
        for future in futures:
            if not future.done():  # the task that waited may have been cancelled
                future.set_result(None)


_mailboxes: WeakKeyDictionary[AbstractEventLoop, _Mailbox] = WeakKeyDictionary()


class LoopWakeup:
    """The Wakeup of a task of an event loop.

    ``producer`` is the event loop on which `set` is called, if it is called on one. The task is
    woken after the callbacks that are ready there, such as those of other streams, which may wake
    other tasks of this loop in the same call.
    """

    __slots__ = ("_future", "_loop", "_mailbox", "_producer")
    _future: asyncio.Future[None]  # the one of the present wait

    def __init__(
        self, loop: AbstractEventLoop, *, producer: AbstractEventLoop | None = None
    ) -> None:
        self._loop = loop
        self._producer = producer
        self._mailbox = _mailboxes.setdefault(loop, _Mailbox())

    def clear(self) -> None:
        """Prepare the next `wait`."""
        self._future = self._loop.create_future()

    async def wait(self, seconds: float | None = None) -> None:
        """Suspend the task until `set` was called, or for that many seconds."""
        if seconds is None:
            await self._future
        else:
            await asyncio.wait((self._future,), timeout=seconds)

    def set(self) -> None:
        """Wake the task."""
        self._mailbox.add(self._future, self._producer)


class _Blocking:
    """Waits by blocking the thread."""

    async def __call__(self, future: Future[T]) -> T:
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def wakeup(self, producer: AbstractEventLoop) -> Wakeup:  # noqa: ARG002 - a thread needs none
        return ThreadWakeup()


class _Awaiting:
    """Waits by suspending the task."""

    async def __call__(self, future: Future[T]) -> T:
        return await asyncio.wrap_future(future)

    def wakeup(self, producer: AbstractEventLoop) -> Wakeup:
        return LoopWakeup(asyncio.get_running_loop(), producer=producer)


block_on: Wait = _Blocking()
await_on: Wait = _Awaiting()


def run(work: Coroutine[Any, Any, T]) -> T:
    """The return value of a coroutine that never suspends."""
    try:
        work.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    msg = "a blocking operation suspended; it must wait through block_on only"
    raise AssertionError(msg)


def iterate(items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """The items of an async generator that never suspends; it is closed if the caller stops."""
    try:
        while True:
            try:
                item = run(anext(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(items.aclose())
