"""Measure the memory of many prompts, one after the other and at once.

    python -m pip install --group bench
    python benchmarks/memory.py

Every row is a process of its own. "Resident" is the memory of the client's process. The prompts of
``iter_results`` and of a batch come from a generator and are answered over HTTP by a server that
needs no time, or, with ``canned``, by a transport in the client's process, which is faster. In the
second table, prompts wait for a server that does not answer them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
LIMIT_S = 3600
PROMPT = "hello there " * 20
JSON = {"Content-Type": "application/json"}
SHARES = (10, 50, 100)
PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Run every measurement in its own process and print the tables."""
    options = _options()
    if options.child:
        print(json.dumps(CHILDREN[options.child[0]](*options.child[1:])))
        return
    load = ", ".join(f"{part:.1f}" for part in os.getloadavg())
    print(f"{time.strftime('%Y-%m-%d')}, Python {sys.version.split()[0]}, load {load}\n")
    print("| call | prompts | over | " + " | ".join(f"at {s}%" for s in SHARES) + " | CPU each |")
    print("|---|---|---|" + "---|" * (len(SHARES) + 1))
    for call in options.calls:
        for count, over in ((options.prompts, "HTTP"), (options.canned, "canned")):
            if count:
                _print_run(call, count, over)
    print("\n| client | in flight | resident per prompt |\n|---|---|---|")
    for client in options.clients:
        for count in options.in_flight:
            _print_in_flight(client, count)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=100_000, help="over HTTP; 0 for none")
    parser.add_argument("--canned", type=int, default=1_000_000, help="in process; 0 for none")
    parser.add_argument("--calls", nargs="*", default=["iter_results", "batch"])
    parser.add_argument("--in-flight", type=int, nargs="*", default=[1000, 4000])
    parser.add_argument("--clients", nargs="*", default=["llmengine", "aiohttp", "openai"])
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


def _print_run(call: str, count: int, over: str) -> None:
    with _server("0") as url:
        found, problem = _child(call, str(count), url if over == "HTTP" else "")
    if problem:
        print(f"| {call} | {count:,} | {over} | {problem} |")
        return
    sizes = " | ".join(f"{size / 2**20:.1f} MiB" for size in found["resident"])
    print(f"| {call} | {count:,} | {over} | {sizes} | {1e6 * found['cpu'] / count:.0f} us |")


def _print_in_flight(client: str, count: int) -> None:
    with _server("3600") as url:
        found, problem = _child("in_flight", client, str(count), url)
    text = problem or f"{found['bytes'] / 1024:.1f} KiB"
    print(f"| {client} | {count:,} | {text} |")


def _child(*arguments: str) -> tuple[dict[str, Any], str]:
    """What a measurement printed, or the reason why it printed nothing."""
    environment = os.environ | {"LLMENGINE_MAX_CONCURRENCY": "100000"}
    try:
        done = subprocess.run(
            [sys.executable, __file__, "--child", *arguments],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return {}, f"not done in {LIMIT_S} s"
    if done.returncode:
        return {}, f"failed: {(done.stderr.strip() or 'no message').splitlines()[-1][:60]}"
    return json.loads(done.stdout), ""


@contextmanager
def _server(seconds: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, str(HERE / "minimal_server.py"), "500", seconds],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)


# ---- in the process of one measurement


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE


class _Samples:
    """The resident memory when shares of the prompts were answered."""

    def __init__(self, count: int) -> None:
        self._left = {count * share // 100 for share in SHARES}
        self._start = time.process_time()
        self.found: list[int] = []

    def at(self, done: int) -> None:
        """Note the memory if it is time."""
        if done in self._left:
            self._left.remove(done)
            self.found.append(_resident())

    def row(self) -> dict[str, Any]:
        """What the table shows."""
        return {"resident": self.found, "cpu": time.process_time() - self._start}


def _engine(url: str, concurrency: int = 64) -> Any:
    from llmengine import EngineConfig

    settings: dict[str, Any] = {"endpoint": url}
    if not url:
        from llmengine.transport.registry import register_transports

        register_transports({"canned": _canned()})
        settings = {"endpoint": "http://127.0.0.1:9", "transport": "canned"}
    return EngineConfig(
        backend="openai_compatible", model="m", max_concurrency=concurrency, **settings
    ).engine


def _canned() -> Callable[[], Any]:
    from minimal_server import BODY

    from llmengine.transport.base import HTTPReply

    class Canned:
        async def fetch(self, _: object) -> HTTPReply:
            await asyncio.sleep(0)
            return HTTPReply(200, JSON, BODY)

        async def aclose(self) -> None:
            pass

    return Canned


def iter_results(count: str, url: str = "") -> dict[str, Any]:
    """A generator of prompts through ``iter_results``."""
    engine, number = _engine(url), int(count)
    samples = _Samples(number)
    prompts = (f"{place} {PROMPT}" for place in range(number))
    for done, result in enumerate(engine.iter_results(prompts), start=1):
        assert result.ok
        samples.at(done)
    return samples.row()


def batch(count: str, url: str = "") -> dict[str, Any]:
    """A file of requests through ``run_batch``."""
    from llmengine import run_batch

    engine, number = _engine(url), int(count)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.jsonl")
        with source.open("w") as lines:
            for place in range(number):
                body = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
                line = {"custom_id": f"line-{place}", "method": "POST", "body": body}
                print(json.dumps(line | {"url": "/v1/chat/completions"}), file=lines)
        samples = _Samples(number)
        report = run_batch(
            source, Path(folder, "out.jsonl"), engine, on_progress=lambda p: samples.at(p.done)
        )
    assert report.ok
    return samples.row()


def in_flight(client: str, count: str, url: str) -> dict[str, Any]:
    """Prompts that all wait for their answers."""
    number = int(count)
    _WAITING[client](1, url)  # imports the client and opens a connection
    before = _resident()
    _WAITING[client](number, url)
    _wait_for_sockets(number)
    return {"bytes": (_resident() - before) / number}


def _wait_for_sockets(number: int) -> None:
    end = time.monotonic() + 300
    while sum(1 for _ in Path("/proc/self/fd").iterdir()) < number and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1)  # the last requests are written


def _llmengine_waits(number: int, url: str) -> None:
    engine = _engine(url, concurrency=number)
    _in_thread(lambda: engine.results([f"{place} {PROMPT}" for place in range(number)]))


def _aiohttp_waits(number: int, url: str) -> None:
    import aiohttp

    async def main() -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def call(place: int) -> None:
                body = {
                    "model": "m",
                    "messages": [{"role": "user", "content": f"{place} {PROMPT}"}],
                }
                async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
                    await reply.read()

            await asyncio.gather(*map(call, range(number)))

    _in_thread(lambda: asyncio.run(main()))


def _openai_waits(number: int, url: str) -> None:
    from openai import AsyncOpenAI

    async def main() -> None:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="EMPTY", timeout=3600) as client:

            async def call(place: int) -> None:
                await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": f"{place} {PROMPT}"}]
                )

            await asyncio.gather(*map(call, range(number)))

    _in_thread(lambda: asyncio.run(main()))


def _in_thread(work: Callable[[], object]) -> None:
    import threading

    threading.Thread(target=work, daemon=True).start()
    time.sleep(1)


_WAITING = {"llmengine": _llmengine_waits, "aiohttp": _aiohttp_waits, "openai": _openai_waits}
CHILDREN: dict[str, Callable[..., dict[str, Any]]] = {
    f.__name__: f for f in (iter_results, batch, in_flight)
}


if __name__ == "__main__":
    main()
    if "--child" in sys.argv:
        sys.stdout.flush()
        os._exit(0)  # the calls that wait would be waited for
