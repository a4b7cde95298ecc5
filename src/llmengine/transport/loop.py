"""Which transport a request takes.

The one daemon event loop of a process, on which all requests run.

Sync callers, async callers of any event loop, and threads all hand their work to it. So
connections are never bound to a loop that has been closed, limits hold for the whole process,
and nothing is written twice.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from llmengine.transport.cold_start import Readiness
from llmengine.transport.policies import Pace
from llmengine.transport.server_queue import ServerQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

    from llmengine.transport.base import Transport


# Where respx, pytest-httpx and their like take over httpx: (module, class, method).
_SEAMS = (
    ("httpcore", "AsyncConnectionPool", "handle_async_request"),
    ("httpx", "AsyncHTTPTransport", "handle_async_request"),
    ("httpx", "AsyncClient", "_transport_for_url"),
)


def httpx_is_taken_over() -> bool:
    """Whether somebody has replaced the way httpx sends requests.

    A person who mocks httpx means that nothing leaves the process, so their mock must be asked
    rather than passed by.
    """
    if "httpx" not in sys.modules:
        return False
    for package, class_name, method in _SEAMS:
        owner = getattr(sys.modules.get(package), class_name, None)
        function = getattr(owner, method, None)
        if function is not None and not function.__module__.startswith(package):
            return True
    return False


def transport_name(setting: str) -> str:
    """The transport for one request: the setting, or for "auto" the one that fits."""
    if setting == "auto":
        return "httpx" if httpx_is_taken_over() else "aiohttp"
    return setting


def make_transport(name: str) -> Transport:
    """A new transport; to be called on the loop that will use it."""
    if name == "httpx":
        from llmengine.transport.httpx_transport import HttpxTransport  # noqa: PLC0415 - on demand

        return HttpxTransport()
    from llmengine.transport.aiohttp_transport import AiohttpTransport  # noqa: PLC0415 - on demand

    return AiohttpTransport()


T = TypeVar("T")


class Closable(Protocol):
    """What holds connections, or other things that must be given back."""

    async def aclose(self) -> None:
        """Give everything back."""
        ...


C = TypeVar("C", bound=Closable)

# Sockets are the process's scarcest resource: 1024 file descriptors is the usual soft limit.
PROCESS_CONCURRENCY = int(os.environ.get("LLMENGINE_MAX_CONCURRENCY", "1000"))


class Background:
    """An event loop on a daemon thread, with the connections and limits that live on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = asyncio.new_event_loop() if loop is None else loop
        self._shared: dict[str, Any] = {}
        self._paces: dict[tuple[str, int], Pace] = {}
        self._readiness: dict[str, Readiness] = {}
        self._queues: dict[tuple[str, str], ServerQueue] = {}
        self._slots: WeakKeyDictionary[object, asyncio.Semaphore] = WeakKeyDictionary()
        self.process_slots = asyncio.Semaphore(PROCESS_CONCURRENCY)
        self._thread = threading.Thread(target=self._run, name="llmengine", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start the work on the loop, in the caller's context; its future for any thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def transport(self, setting: str) -> Transport:
        """The shared transport of that setting; on the loop only."""
        name = transport_name(setting)
        return self.shared(name, lambda: make_transport(name))

    def shared(self, name: str, make: Callable[[], C]) -> C:
        """The one holder of that name, closed with the loop; on the loop only."""
        if name not in self._shared:
            self._shared[name] = make()
        kept: C = self._shared[name]
        return kept

    def kept(self, name: str) -> Any:
        """What is shared under that name, None where nothing is; on the loop only."""
        return self._shared.get(name)

    def drop(self, name: str) -> None:
        """Forget what is shared under that name, which is over; on the loop only."""
        del self._shared[name]

    def slots(self, owner: object, count: int) -> asyncio.Semaphore:
        """How many calls of one engine may be under way; on the loop only."""
        if owner not in self._slots:
            self._slots[owner] = asyncio.Semaphore(count)
        return self._slots[owner]

    def pace(self, origin: str, credential: int) -> Pace:
        """The rhythm of one server for one key, shared by all its engines; on the loop only."""
        key = (origin, credential)
        if key not in self._paces:
            self._paces[key] = Pace(origin)
        return self._paces[key]

    def pause(self, origin: str, credential: int) -> float:
        """The seconds left of a pause that the server asked for with that key; from any thread."""
        pace = self._paces.get((origin, credential))
        return 0.0 if pace is None else pace.pause

    def pauses(self) -> dict[str, float]:
        """The servers that asked for a pause, each with the seconds left; from any thread."""
        left: dict[str, float] = {}
        for (origin, _), pace in list(self._paces.items()):
            if pause := pace.pause:
                left[origin] = max(pause, left.get(origin, 0.0))
        return left

    def readiness(self, origin: str) -> Readiness:
        """Whether one server is awake, shared by all its engines; on the loop only."""
        return self._readiness.setdefault(origin, Readiness(origin))

    def queue(self, origin: str, model: str) -> ServerQueue:
        """The queue of one server for one model, shared by all its engines; on the loop only."""
        key = (origin, model)
        if key not in self._queues:
            self._queues[key] = ServerQueue(origin)
        return self._queues[key]

    def stop(self) -> None:
        """Close the connections and end the thread."""
        self.submit(self._close()).result(timeout=30)  # a model takes a while
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=5)
        self.loop.close()

    async def _close(self) -> None:
        for kept in self._shared.values():
            await kept.aclose()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_lock = threading.Lock()
_current: Background | None = None
# A forked child must not close its parent's sockets, so the parent's loop is kept, untouched.
_inherited: list[Background] = []


def background() -> Background:
    """The process's background loop, started when it is first needed."""
    global _current  # noqa: PLW0603 - one loop a process
    with _lock:
        if _current is None:
            _current = Background()
        return _current


def pauses() -> dict[str, float]:
    """The servers that asked this process to wait (HTTP 429), each with the seconds left.

    Calls to them wait for that long, or end at once if that is longer than their ``timeout.wait``.
    """
    return {} if _current is None else _current.pauses()


def shutdown() -> None:
    """End the background loop; the next call starts a new one."""
    global _current
    with _lock:
        current, _current = _current, None
    if current is not None:
        current.stop()


def _after_fork_in_child() -> None:
    global _current, _lock  # noqa: PLW0603 - one loop a process
    _lock = threading.Lock()
    if _current is not None:
        _inherited.append(_current)
        _current = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(shutdown)
