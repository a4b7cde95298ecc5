"""Run one client with one concurrency in this process; prints its CPU per request as JSON.

python benchmarks/one_client.py CLIENT IN_FLIGHT REQUESTS URL
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PROMPT = "hello there " * 20
MESSAGES = [{"role": "user", "content": PROMPT}]
BODY = {"model": "m", "messages": MESSAGES, "temperature": 0.0, "max_tokens": 100}
JSON = {"Content-Type": "application/json"}


def llmengine(in_flight: int, requests: int, url: str, transport: str = "auto") -> float:
    """Our engine, with the call that users make."""
    from llmengine import EngineConfig, SamplingParams

    config = EngineConfig(
        backend="openai_compatible",
        model="m",
        endpoint=url,
        max_concurrency=in_flight,
        transport=transport,
        timeout={"connect": 120, "total": 600},  # a busy machine must not make it send again
    )
    sampling = SamplingParams(temperature=0.0, max_tokens=100)
    config.engine.generate([PROMPT] * 2 * in_flight, sampling)
    start = time.process_time()
    config.engine.generate([PROMPT] * requests, sampling)
    return time.process_time() - start


def llmengine_aiohttp(in_flight: int, requests: int, url: str) -> float:
    """Our engine over aiohttp."""
    return llmengine(in_flight, requests, url, "aiohttp")


def layers(in_flight: int, requests: int, url: str) -> float:
    """Our engine over a transport that has every answer already: what its own layers cost."""
    from urllib.request import urlopen

    from llmengine.transport.base import HTTPReply
    from llmengine.transport.registry import register_transports

    with urlopen(f"{url}/v1/chat/completions", data=b"{}") as reply:
        answer = reply.read()

    class Canned:
        async def fetch(self, _: object) -> HTTPReply:
            await asyncio.sleep(0.05)  # as the server; without it, nothing leaves the CPU's caches
            return HTTPReply(200, {"Content-Type": "application/json"}, answer)

        async def aclose(self) -> None:
            pass

    register_transports({"canned": Canned})  # type: ignore[dict-item]
    return llmengine(in_flight, requests, url, "canned")


async def transport(in_flight: int, requests: int, url: str) -> float:
    """Our transport alone, with the same bytes each time."""
    import orjson

    from llmengine.transport.asyncio_transport import AsyncioTransport
    from llmengine.transport.base import HTTPRequest

    client, data = AsyncioTransport(), orjson.dumps(BODY)
    headers = JSON | {"User-Agent": "llmengine"}

    async def call() -> None:
        await client.fetch(HTTPRequest(f"{url}/v1/chat/completions", headers, data, None, 600))

    seconds = await _timed(call, in_flight, requests)
    await client.aclose()
    return seconds


async def protocol(in_flight: int, requests: int, url: str) -> float:
    """An asyncio.Protocol that knows this server's answers, and orjson: the floor."""
    import orjson

    class Floor(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.data = transport, b""

        def data_received(self, data: bytes) -> None:
            self.data += data
            head, _, body = self.data.partition(b"\r\n\r\n")
            if len(body) == int(head.rpartition(b" ")[2] or -1):
                self.data = b""
                self.answer.set_result(body)

    loop, free = asyncio.get_running_loop(), []
    port = int(url.rpartition(":")[2])
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n"

    async def call() -> None:
        data = orjson.dumps(BODY)
        if free:
            connection = free.pop()
        else:
            _, connection = await loop.create_connection(Floor, "127.0.0.1", port)
        connection.answer = loop.create_future()
        connection.transport.write(head % len(data) + data)
        orjson.loads(await connection.answer)
        free.append(connection)

    return await _timed(call, in_flight, requests)


async def aiohttp(in_flight: int, requests: int, url: str) -> float:
    """Bare aiohttp with orjson."""
    import aiohttp
    import orjson

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call() -> None:
            data = orjson.dumps(BODY)
            async with session.post(f"{url}/v1/chat/completions", data=data, headers=JSON) as reply:
                orjson.loads(await reply.read())

        return await _timed(call, in_flight, requests)


async def httpx(in_flight: int, requests: int, url: str) -> float:
    """Plain httpx.AsyncClient."""
    import httpx

    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:

        async def call() -> None:
            (await client.post(f"{url}/v1/chat/completions", json=BODY)).json()

        return await _timed(call, in_flight, requests)


async def openai(in_flight: int, requests: int, url: str) -> float:
    """The official SDK."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="EMPTY", timeout=60) as client:

        async def call() -> None:
            await client.chat.completions.create(**BODY)  # type: ignore[call-overload]

        return await _timed(call, in_flight, requests)


async def litellm(in_flight: int, requests: int, url: str) -> float:
    """The OpenAI route of litellm."""
    import litellm

    async def call() -> None:
        await litellm.acompletion(
            **(BODY | {"model": "openai/m"}), api_base=f"{url}/v1", api_key="EMPTY", timeout=60
        )

    return await _timed(call, in_flight, requests)


async def _timed(call: Callable[[], Awaitable[Any]], in_flight: int, requests: int) -> float:
    await _pool(call, in_flight, 2 * in_flight)
    start = time.process_time()
    await _pool(call, in_flight, requests)
    return time.process_time() - start


async def _pool(call: Callable[[], Awaitable[Any]], in_flight: int, requests: int) -> None:
    tickets = iter(range(requests))

    async def worker() -> None:
        for _ in tickets:
            await call()

    await asyncio.gather(*(worker() for _ in range(in_flight)))


def main() -> None:
    """Run the client that the command line names."""
    name, in_flight, requests, url = sys.argv[1:]
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    ours = (llmengine, llmengine_aiohttp, layers, transport)
    clients = {f.__name__: f for f in (protocol, aiohttp, *ours, httpx, openai, litellm)}
    done: Any = clients[name](int(in_flight), int(requests), url)
    seconds = asyncio.run(done) if asyncio.iscoroutine(done) else done
    print(json.dumps({"client": name, "micros": 1e6 * seconds / int(requests)}))


if __name__ == "__main__":
    main()
