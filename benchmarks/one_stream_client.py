"""Read streams with one client in this process; prints CPU per event and delays as JSON.

python benchmarks/one_stream_client.py CLIENT STREAMS URL
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
JSON = {"Content-Type": "application/json"}

# Nanoseconds from the server's write to the text in the hand of the reader, one per event.
delays: list[int] = []


def got(text: str) -> None:
    """Note that the text of one event has arrived."""
    if text:
        delays.append(time.monotonic_ns() - int(text))


def llmengine_sync(streams: int, url: str) -> float:
    """Our ``stream``, one thread per stream."""
    engine = _engine(url)

    def read() -> None:
        for delta in engine.stream("Hi"):
            got(delta.text)

    read()
    return _threads(read, streams)


async def llmengine(streams: int, url: str) -> float:
    """Our ``astream``, one task per stream."""
    engine = _engine(url)

    async def read() -> None:
        async for delta in engine.astream("Hi"):
            got(delta.text)

    return await _tasks(read, streams)


async def aiohttp_bytes(streams: int, url: str) -> float:
    """Bare aiohttp: the bytes are looked for the time, and are not decoded."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def read() -> None:
            data = json.dumps(BODY)
            async with session.post(f"{url}/v1/chat/completions", data=data, headers=JSON) as reply:
                async for piece in reply.content.iter_any():
                    for event in piece.split(b'"content":"')[1:]:
                        got(event[:19].decode())

        return await _tasks(read, streams)


async def aiohttp(streams: int, url: str) -> float:
    """What a user would write: lines of aiohttp, decoded by orjson."""
    import aiohttp
    import orjson

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def read() -> None:
            data = orjson.dumps(BODY)
            async with session.post(f"{url}/v1/chat/completions", data=data, headers=JSON) as reply:
                async for line in reply.content:
                    if line.startswith(b"data: {"):
                        choice = orjson.loads(line[6:])["choices"][0]
                        got(choice["delta"].get("content", ""))

        return await _tasks(read, streams)


async def openai(streams: int, url: str) -> float:
    """The official SDK."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="EMPTY", timeout=60) as client:

        async def read() -> None:
            stream = await client.chat.completions.create(**BODY)  # type: ignore[call-overload]
            async for event in stream:
                got(event.choices[0].delta.content or "")

        return await _tasks(read, streams)


def openai_sync(streams: int, url: str) -> float:
    """The official SDK, one thread per stream."""
    from openai import OpenAI

    with OpenAI(base_url=f"{url}/v1", api_key="EMPTY", timeout=60) as client:

        def read() -> None:
            for event in client.chat.completions.create(**BODY):  # type: ignore[call-overload]
                got(event.choices[0].delta.content or "")

        read()
        return _threads(read, streams)


def _engine(url: str) -> Any:
    from llmengine import EngineConfig

    return EngineConfig(
        backend="openai_compatible", model="m", endpoint=url, max_concurrency=1000
    ).engine


def _threads(read: Callable[[], None], streams: int) -> float:
    delays.clear()
    threads = [threading.Thread(target=read) for _ in range(streams)]
    start = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.process_time() - start


async def _tasks(read: Callable[[], Awaitable[None]], streams: int) -> float:
    await read()
    delays.clear()
    start = time.process_time()
    await asyncio.gather(*(read() for _ in range(streams)))
    return time.process_time() - start


CLIENTS = {
    f.__name__.replace("_", "-"): f
    for f in (llmengine, llmengine_sync, aiohttp_bytes, aiohttp, openai, openai_sync)
}


def main() -> None:
    """Run the client that the command line names."""
    name, streams, url = sys.argv[1:]
    done: Any = CLIENTS[name](int(streams), url)
    seconds = asyncio.run(done) if asyncio.iscoroutine(done) else done
    ordered = sorted(delays)
    print(
        json.dumps(
            {
                "events": len(delays),
                "micros": 1e6 * seconds / len(delays),
                "p50": ordered[len(ordered) // 2] / 1e3,
                "p99": ordered[len(ordered) * 99 // 100] / 1e3,
            }
        )
    )


if __name__ == "__main__":
    main()
