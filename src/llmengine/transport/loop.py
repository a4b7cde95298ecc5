"""The background event loop of the process, with everything that the calls on it share.

All requests run on one event loop in a daemon thread. Sync callers, async callers of any event
loop, and threads pass their work to it. So a connection never belongs to a closed loop, limits
apply to the whole process, and sync and async calls need no separate code.
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
from llmengine.transport.limiter import Dispatcher
from llmengine.transport.mocks import is_started_here, refuse_unmocked
from llmengine.transport.policies import ServerQueue
from llmengine.transport.registry import AUTO, BUILT_IN, transport_factory

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable
    from concurrent.futures import Future

    from llmengine.transport.base import Transport
    from llmengine.transport.limiter_config import LimiterConfig


# The methods that such tools replace: (client, module, its classes and methods). Two clients are
# made of two modules each.
_HTTPCORE = (("AsyncConnectionPool", "handle_async_request"),)
_HTTPX = (("AsyncHTTPTransport", "handle_async_request"), ("AsyncClient", "_transport_for_url"))
_METHODS = (
    ("httpx", "httpcore", _HTTPCORE),
    ("httpx", "httpx", _HTTPX),
    ("aiohttp", "aiohttp", (("ClientSession", "_request"),)),
    ("httpx2", "httpcore2", _HTTPCORE),
    ("httpx2", "httpx2", _HTTPX),
)
# Built-in transports that are not among these cannot be mocked.
_MOCKABLE = [name for name in BUILT_IN if any(name == client for client, *_ in _METHODS)]

# The methods of aiohttp.ClientSession that tools for tracing wrap.
_TRACED = ("__init__", "_request")


def mocked_clients() -> dict[str, str]:
    """The clients that are mocked now, each with the name of the tool that has replaced it."""
    found: dict[str, str] = {}
    for client, package, methods in _METHODS:
        # This is asked for each request, and most programs have imported one client at most.
        if package in sys.modules and client not in found:
            module = sys.modules[package]
            for class_name, method in methods:
                owner = getattr(module, class_name, None)
                if owner is not None and (tool := _tool(getattr(owner, method, None), package)):
                    found[client] = tool
                    break
    return found


def _tool(function: object, package: str) -> str:
    """The package that has replaced a method of `package`; "" if the method is the original."""
    mock = getattr(function, "mock", None)  # of unittest.mock, whose copies keep the module's name
    replacement = function if mock is None else getattr(mock, "side_effect", None) or mock
    module = getattr(replacement, "__module__", None) or package
    root = module.partition(".")[0]
    return "" if root == package else root.replace("_", "-")


def _is_traced() -> bool:
    """Whether a tool for tracing, such as OpenTelemetry's, follows the requests of aiohttp."""
    if "aiohttp" not in sys.modules:
        return False
    session = getattr(sys.modules["aiohttp"], "ClientSession", None)
    return any(hasattr(getattr(session, name, None), "__wrapped__") for name in _TRACED)


def transport_name(setting: str, url: str) -> str:
    """The name of the transport for requests to a URL: the setting, or a choice if it is "auto".

    While an HTTP client is mocked, servers of this process are reached through one that is not
    mocked, and other servers only through one that is. Raises NotMockedError if there is none.
    """
    mocks = mocked_clients()
    if not mocks:
        if setting == AUTO:
            return "aiohttp" if _is_traced() else "asyncio"
        return setting
    if setting not in {AUTO, *BUILT_IN}:  # a transport of the project; nobody knows what it uses
        return setting
    clients = _MOCKABLE if setting == AUTO else [setting]
    if is_started_here(url):
        return next((name for name in (*clients, *_MOCKABLE) if name not in mocks), "httpx")
    name = next((name for name in mocks if name in clients), clients[0])
    refuse_unmocked(name, mocks, url)
    return name


T = TypeVar("T")


class Closable(Protocol):
    """An object that holds connections or other resources that must be released."""

    async def aclose(self) -> None:
        """Release all resources."""
        ...


C = TypeVar("C", bound=Closable)

# Each call needs a socket, and the usual soft limit of a process is 1024 file descriptors.
PROCESS_CONCURRENCY = int(os.environ.get("LLMENGINE_MAX_CONCURRENCY", "1000"))


class Background:
    """An event loop on a daemon thread, with the connections and limits that belong to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = asyncio.new_event_loop() if loop is None else loop
        self._shared: dict[Hashable, Any] = {}
        self._readiness: dict[str, Readiness] = {}
        self._queues: dict[tuple[str, str], ServerQueue] = {}
        self._slots: WeakKeyDictionary[object, asyncio.Semaphore] = WeakKeyDictionary()
        self.permits = Dispatcher(self.loop, PROCESS_CONCURRENCY)
        self._thread = threading.Thread(target=self._run, name="llmengine", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start the coroutine on the loop, in the caller's context; the future is thread-safe."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def transport(self, name: str) -> Transport:
        """The shared transport of that name; only to be called on the loop."""
        factory = transport_factory(name)
        return self.shared(factory, factory)

    def shared(self, key: Hashable, make: Callable[[], C]) -> C:
        """The shared object with that key, made by `make` if it does not exist yet.

        It is closed when the loop ends. Only to be called on the loop.
        """
        if key not in self._shared:
            self._shared[key] = make()
        found: C = self._shared[key]
        return found

    def existing(self, name: str) -> Any:
        """The shared object with that name, or None; only to be called on the loop."""
        return self._shared.get(name)

    def drop(self, name: str) -> None:
        """Forget the shared object with that name, which was closed; only for the loop."""
        del self._shared[name]

    def slots(self, owner: object, count: int) -> asyncio.Semaphore:
        """The semaphore that limits the concurrent prompts of one engine; only for the loop."""
        if owner not in self._slots:
            self._slots[owner] = asyncio.Semaphore(count)
        return self._slots[owner]

    def pause(self, origin: str, credential: int, config: LimiterConfig | None = None) -> float:
        """The seconds left of a pause that the server asked for, for that key; thread-safe."""
        limiter = self.permits.existing(origin, credential, config)
        return 0.0 if limiter is None else limiter.pause.left(self.loop.time())

    def pauses(self) -> dict[str, float]:
        """The servers that asked for a pause, each with the seconds left; thread-safe."""
        left: dict[str, float] = {}
        for limiter in self.permits.limiters():
            if pause := limiter.pause.left(self.loop.time()):
                origin = limiter.pause.origin
                left[origin] = max(pause, left.get(origin, 0.0))
        return left

    def readiness(self, origin: str) -> Readiness:
        """The readiness of one server, shared by all its engines; only for the loop."""
        return self._readiness.setdefault(origin, Readiness(origin))

    def queue(self, origin: str, model: str) -> ServerQueue:
        """The queue of one server and one model, shared by all its engines; only for the loop."""
        key = (origin, model)
        if key not in self._queues:
            self._queues[key] = ServerQueue(origin)
        return self._queues[key]

    def stop(self) -> None:
        """Close the connections and end the thread."""
        self.submit(self._close()).result(timeout=30)  # an in-process model takes a while
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=5)
        self.loop.close()

    async def _close(self) -> None:
        for shared in self._shared.values():
            await shared.aclose()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_lock = threading.Lock()
_current: Background | None = None
# A forked child must not close the sockets of its parent. So it keeps a reference to the parent's
# loop, but does not use it.
_inherited: list[Background] = []


def background() -> Background:
    """The background loop of the process, which is started when it is first needed."""
    global _current  # noqa: PLW0603 - one loop per process
    with _lock:
        if _current is None:
            _current = Background()
        return _current


def pauses() -> dict[str, float]:
    """The servers that asked this process to wait (HTTP 429), each with the seconds left.

    Calls to them wait that long, or fail at once if that is longer than their ``timeout.wait``.
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
    global _current, _lock  # noqa: PLW0603 - one loop per process
    _lock = threading.Lock()
    if _current is not None:
        _inherited.append(_current)
        _current = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(shutdown)
