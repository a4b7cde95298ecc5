"""Count what a request, and a piece of a stream, cost beyond time: a count does not depend on load.

``python tools/counts.py`` prints the counts. With ``--write`` they become the limits that
``tests/performance`` checks. Each count is per prompt or per piece:

- calls: of Python functions on the background loop, including coroutines that are resumed
- tasks, timers and callbacks: what the background loop was given
- switches: wake-ups of an event loop from another thread, in both directions
- kept and left: allocated blocks of memory while the results are there, and after them

The answers come from a transport in this process, so that the counts are those of this library and
of asyncio; those of ``sockets`` come from a server in another thread. Prompts of ``iter_results``
and pieces of streams go one by one, so that the counts are the same each time: a piece comes when
the reader has the one before, for which this tool makes one switch of its own without sockets.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import socket
import sys
import threading
import tomllib
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from llmengine import EngineConfig
from llmengine.transport import loop
from llmengine.transport.base import HTTPReply, HTTPStream
from llmengine.transport.registry import register_transports, unregister_transports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from llmengine import Engine

LIMITS = Path(__file__).parents[1] / "tests" / "performance" / "limits.toml"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
COUNT = 200
# A function whose calls are fewer per prompt or piece is left out of the limits.
_RARE = 0.9

_CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "word " * 20},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 20, "total_tokens": 25},
}
BODY = json.dumps(_CHAT).encode()


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return b"data: " + json.dumps(_CHAT | {"choices": [choice], "usage": None}).encode() + b"\n\n"


PIECE = _event({"content": "word "})
END = _event({}, "stop") + b"data: [DONE]\n\n"


class Canned:
    """A transport whose answers are there after one turn of the loop."""

    # The pieces that a stream may send.
    wanted: ClassVar[asyncio.Semaphore]

    async def fetch(self, _: object) -> HTTPReply:
        """A whole answer."""
        await asyncio.sleep(0)
        return HTTPReply(200, {"Content-Type": "application/json"}, BODY)

    @asynccontextmanager
    async def stream(self, _: object) -> AsyncIterator[HTTPStream]:
        """A stream, of which each event comes when it is wanted."""
        yield HTTPStream(200, {"Content-Type": "text/event-stream"}, self._pieces())

    async def _pieces(self) -> AsyncIterator[bytes]:
        for _ in range(COUNT):
            await self.wanted.acquire()
            yield PIECE
        yield END

    async def aclose(self) -> None:
        """Do nothing."""


class EventServer:
    """A server in a thread, which streams the same answer to each request."""

    _HEAD = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )

    def __init__(self) -> None:
        self.wanted = threading.Semaphore(0)  # the pieces that it may send
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._listener, connection, connection.makefile("rb") as requests:
            while requests.readline():
                length = 0
                while (line := requests.readline()).strip():
                    name, _, value = line.lower().partition(b":")
                    length = int(value) if name == b"content-length" else length
                requests.read(length)
                connection.sendall(self._HEAD)
                for _ in range(COUNT):
                    self.wanted.acquire()
                    connection.sendall(b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
                connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(END), END))


class CountingLoop(asyncio.SelectorEventLoop):
    """An event loop that counts what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.set_task_factory(self._task)

    def _task(self, _: object, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        self.counts["tasks"] += 1
        return asyncio.Task(coroutine, loop=self, **options)

    def call_at(self, *args: Any, **options: Any) -> asyncio.TimerHandle:
        """Count a timer."""
        self.counts["timers"] += 1
        return super().call_at(*args, **options)

    def call_soon(self, *args: Any, **options: Any) -> asyncio.Handle:
        """Count a callback."""
        self.counts["callbacks"] += 1
        return super().call_soon(*args, **options)

    def call_soon_threadsafe(self, *args: Any, **options: Any) -> asyncio.Handle:
        """Count a wake-up from another thread."""
        self.counts["switches"] += 1
        return super().call_soon_threadsafe(*args, **options)


class Counts(NamedTuple):
    """The counts of one way to call, and the calls by function, each per prompt or piece."""

    numbers: dict[str, float]
    functions: dict[str, float]


class _Measurement:
    """Runs a call twice, first to fill the caches and then to count; `own` is the caller's loop."""

    def __init__(self, background: loop.Background, own: CountingLoop) -> None:
        self._background = background
        self._loop = background.loop
        self.own = own

    def counts(self, call: Callable[[], object]) -> Counts:
        assert isinstance(self._loop, CountingLoop)
        call()
        gc.collect()
        before = sys.getallocatedblocks()
        result = call()
        kept = sys.getallocatedblocks() - before
        del result
        gc.collect()
        left = sys.getallocatedblocks() - before
        self._loop.counts.clear()
        self.own.counts.clear()
        with self._profiled() as functions:
            call()
        found = self._loop.counts + Counter({"switches": self.own.counts["switches"]})
        totals = {"calls": functions.total(), **found, "kept": kept, "left": left}
        names = ("calls", "tasks", "timers", "callbacks", "switches", "kept", "left")
        return Counts(
            {name: round(max(0, totals.get(name, 0)) / COUNT, 2) for name in names},
            {name: n / COUNT for name, n in functions.most_common() if n >= _RARE * COUNT},
        )

    @contextmanager
    def _profiled(self) -> Iterator[Counter[str]]:
        calls: Counter[Any] = Counter()
        functions: Counter[str] = Counter()

        def count(frame: Any, event: str, _: object) -> None:
            if event == "call":
                calls[frame.f_code] += 1

        async def profile(function: Any) -> None:
            sys.setprofile(function)

        self._background.submit(profile(count)).result(30)
        try:
            yield functions
        finally:
            self._background.submit(profile(None)).result(30)
            for code, number in calls.items():
                functions[f"{_module(code.co_filename)}:{code.co_qualname}"] += number


def _module(path: str) -> str:
    file = Path(path)
    return f"{file.parent.name}/{file.name}"


def measured() -> dict[str, Counts]:
    """The counts of each way to call."""
    register_transports({"canned": Canned})
    Canned.wanted = asyncio.Semaphore(0)
    loop.shutdown()
    own = CountingLoop()
    background = loop.Background(CountingLoop())
    loop._current = background  # noqa: SLF001 - as the tests' clock does
    try:
        canned, server = _engine("http://127.0.0.1:9", "canned"), EventServer()
        over_sockets = _engine(server.url, "asyncio")
        measurement = _Measurement(background, own)
        calls = [*_calls(canned, own), ("sockets", _streamed(over_sockets, own, server))]
        return {name: measurement.counts(call) for name, call in calls}
    finally:
        loop.shutdown()
        own.close()
        unregister_transports(["canned"])


def _calls(engine: Engine, own: CountingLoop) -> Iterator[tuple[str, Callable[[], object]]]:
    prompts = [f"prompt {number}" for number in range(COUNT)]

    def want(number: int) -> None:
        if number < COUNT:
            loop.background().loop.call_soon_threadsafe(Canned.wanted.release)

    async def astream() -> None:
        want(0)
        number = 0
        async for _ in engine.astream("Hi"):
            want(number := number + 1)

    def stream() -> None:
        want(0)
        for number, _ in enumerate(engine.stream("Hi"), start=1):
            want(number)

    yield "generate", lambda: engine.generate(prompts)
    yield "iter_results", lambda: list(engine.iter_results(prompts, window=1))
    yield "stream", stream
    yield "astream", lambda: own.run_until_complete(astream())


def _engine(url: str, transport: str) -> Engine:
    return EngineConfig(
        backend="openai_compatible",
        model="m",
        endpoint=url,
        transport=transport,
        max_concurrency=8,
    ).engine


def _streamed(engine: Engine, own: CountingLoop, server: EventServer) -> Callable[[], object]:
    """A call of ``astream`` that gets the pieces of a server one by one."""

    async def astream() -> None:
        server.wanted.release()
        number = 0
        async for _ in engine.astream("Hi"):
            number += 1
            if number < COUNT:
                server.wanted.release()

    return lambda: own.run_until_complete(astream())


def limits() -> dict[str, Any]:
    """The limits that are in the file, by Python version and way to call."""
    return tomllib.loads(LIMITS.read_text("utf-8")) if LIMITS.exists() else {}


def _write(found: dict[str, Counts]) -> None:
    tables = limits() | {PYTHON: {name: counts._asdict() for name, counts in found.items()}}
    lines = ["# Written by: python tools/counts.py --write"]
    for version, calls in sorted(tables.items()):
        for name, counts in calls.items():
            for part, values in counts.items():
                lines.append(f'\n["{version}".{name}.{part}]')
                lines += [f"{json.dumps(key)} = {value}" for key, value in values.items()]
    LIMITS.write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    """Print the counts, and write them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"make them the limits for {PYTHON}")
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    options = parser.parse_args()
    found = measured()
    if options.json:
        sys.stdout.write(json.dumps({name: counts._asdict() for name, counts in found.items()}))
        return
    names = list(next(iter(found.values())).numbers)
    lines = [f"{'':14}" + "".join(f"{name:>11}" for name in names)]
    for call, counts in found.items():
        lines.append(f"{call:14}" + "".join(f"{n:11.2f}" for n in counts.numbers.values()))
    if options.write:
        _write(found)
        lines.append(f"written to {LIMITS}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
