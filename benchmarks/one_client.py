"""Run one client with one concurrency in this process; prints its CPU per request as JSON.

    python benchmarks/one_client.py CLIENT IN_FLIGHT REQUESTS URL [SECONDS]

After that many seconds, the client starts no more requests, because some clients need milliseconds
for each. This does not hold for the engine of llmengine, which gets all requests at once.
Retries and caches are off. Except for these and for timeouts and limits of connections, each client
is used as its documentation shows it.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    Call = Callable[[], Awaitable[Any]]
    Client = Callable[[str, int], AbstractAsyncContextManager[Call]]

PROMPT = "hello there " * 20
MESSAGES = [{"role": "user", "content": PROMPT}]
SAMPLING: dict[str, Any] = {"temperature": 0.0, "max_tokens": 100}
BODY: dict[str, Any] = {"model": "m", "messages": MESSAGES, **SAMPLING}
JSON = {"Content-Type": "application/json"}
PATH = "/v1/chat/completions"
TIMEOUT_S = 600  # a busy machine must not make a client give up


def llmengine(url: str, in_flight: int, requests: int, transport: str = "auto") -> float:
    """Our engine, with the call that users make."""
    from llmengine import EngineConfig, SamplingParams

    config = EngineConfig(
        backend="openai_compatible",
        model="m",
        endpoint=url,
        max_concurrency=in_flight,
        transport=transport,
        timeout={"connect": 120, "total": TIMEOUT_S},
    )
    sampling = SamplingParams(**SAMPLING)
    _check(config.engine.generate([PROMPT] * 2 * in_flight, sampling)[0])
    start = time.process_time()
    config.engine.generate([PROMPT] * requests, sampling)
    return (time.process_time() - start) / requests


def llmengine_aiohttp(url: str, in_flight: int, requests: int) -> float:
    """Our engine over aiohttp."""
    return llmengine(url, in_flight, requests, "aiohttp")


def layers(url: str, in_flight: int, requests: int) -> float:
    """Our engine over a transport that has every answer already: what its own layers cost."""
    from urllib.request import urlopen

    from llmengine.transport.base import HTTPReply
    from llmengine.transport.registry import register_transports

    with urlopen(url + PATH, data=b"{}") as reply:
        answer = reply.read()

    class Canned:
        async def fetch(self, _: object) -> HTTPReply:
            await asyncio.sleep(0.05)  # as the server; without it, nothing leaves the CPU's caches
            return HTTPReply(200, {"Content-Type": "application/json"}, answer)

        async def aclose(self) -> None:
            pass

    register_transports({"canned": Canned})  # type: ignore[dict-item]
    return llmengine(url, in_flight, requests, "canned")


@asynccontextmanager
async def transport(url: str, _: int) -> AsyncIterator[Call]:
    """Our transport alone, with the same bytes each time."""
    import orjson

    from llmengine.transport.asyncio_transport import AsyncioTransport
    from llmengine.transport.base import HTTPRequest

    client, data = AsyncioTransport(), orjson.dumps(BODY)
    headers = JSON | {"User-Agent": "llmengine"}

    async def call() -> bytes:
        request = HTTPRequest(url + PATH, headers, data, None, TIMEOUT_S)
        return bytes((await client.fetch(request)).body)

    yield call
    await client.aclose()


@asynccontextmanager
async def protocol(url: str, _: int) -> AsyncIterator[Call]:
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

    async def call() -> Any:
        data = orjson.dumps(BODY)
        if free:
            connection = free.pop()
        else:
            _, connection = await loop.create_connection(Floor, "127.0.0.1", port)
        connection.answer = loop.create_future()
        connection.transport.write(head % len(data) + data)
        answer = orjson.loads(await connection.answer)
        free.append(connection)
        return answer

    yield call


@asynccontextmanager
async def aiohttp(url: str, _: int) -> AsyncIterator[Call]:
    """Bare aiohttp with orjson."""
    import aiohttp
    import orjson

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call() -> Any:
            data = orjson.dumps(BODY)
            async with session.post(url + PATH, data=data, headers=JSON) as reply:
                return orjson.loads(await reply.read())

        yield call


@asynccontextmanager
async def pyreqwest(url: str, _: int) -> AsyncIterator[Call]:
    """The client of pyreqwest, with its own JSON."""
    from pyreqwest.client import ClientBuilder

    async with ClientBuilder().build() as client:

        async def call() -> Any:
            reply = await client.post(url + PATH).body_json(BODY).build().send()
            return await reply.json()

        yield call


@asynccontextmanager
async def httpx(url: str, in_flight: int, name: str = "httpx") -> AsyncIterator[Call]:
    """Plain httpx.AsyncClient."""
    httpx = import_module(name)
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    async with httpx.AsyncClient(limits=limits, timeout=TIMEOUT_S) as client:

        async def call() -> Any:
            return (await client.post(url + PATH, json=BODY)).json()

        yield call


def httpx2(url: str, in_flight: int) -> AbstractAsyncContextManager[Call]:
    """Plain httpx2.AsyncClient."""
    return httpx(url, in_flight, "httpx2")


@asynccontextmanager
async def openai(url: str, _: int) -> AsyncIterator[Call]:
    """The official SDK."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(**_server(url, "base_url"), max_retries=0) as client:
        yield lambda: client.chat.completions.create(**BODY)


@asynccontextmanager
async def litellm(url: str, _: int) -> AsyncIterator[Call]:
    """The OpenAI route of litellm."""
    import litellm

    options = BODY | _server(url) | {"model": "openai/m", "max_retries": 0}
    yield lambda: litellm.acompletion(**options)


@asynccontextmanager
async def any_llm(url: str, _: int) -> AsyncIterator[Call]:
    """The class of any-llm that keeps its client, with the OpenAI provider."""
    from any_llm import AnyLLM

    client = AnyLLM.create("openai", **_server(url), max_retries=0)
    yield lambda: client.acompletion(**BODY)


@asynccontextmanager
async def langchain(url: str, _: int) -> AsyncIterator[Call]:
    """The chat model of langchain-openai."""
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="m", **SAMPLING, **_server(url, "base_url"), max_retries=0)
    yield lambda: model.ainvoke(MESSAGES)


@asynccontextmanager
async def dspy(url: str, _: int) -> AsyncIterator[Call]:
    """The LM of DSPy."""
    import dspy

    model = dspy.LM("openai/m", **SAMPLING, **_server(url), cache=False, num_retries=0)
    yield lambda: model.acall(PROMPT)


def _server(url: str, name: str = "api_base") -> dict[str, Any]:
    return {name: f"{url}/v1", "api_key": "EMPTY", "timeout": TIMEOUT_S}


ENGINES = {f.__name__: f for f in (llmengine, llmengine_aiohttp, layers)}
SDKS = (openai, litellm, any_llm, langchain, dspy)
CLIENTS: dict[str, Client] = {
    f.__name__: f for f in (protocol, transport, aiohttp, pyreqwest, httpx, httpx2, *SDKS)
}


async def _measure(client: Client, url: str, in_flight: int, requests: int, limit: float) -> float:
    """Seconds of CPU per request."""
    async with client(url, in_flight) as call:
        _check(await call())
        await _pool(call, in_flight, 2 * in_flight, limit / 4)
        start = time.process_time()
        done = await _pool(call, in_flight, requests, limit)
        return (time.process_time() - start) / done


def _check(answer: object) -> None:
    if "word word" not in str(answer):
        raise ValueError(f"not the server's answer: {answer!r}")


async def _pool(call: Call, in_flight: int, requests: int, limit: float) -> int:
    """Make the calls, or as many as start in ``limit`` seconds, and return how many they were.

    Each worker makes at least one.
    """
    clock = asyncio.get_running_loop().time
    tickets, end = iter(range(requests)), clock() + limit

    async def worker() -> int:
        done = 0
        for _ in tickets:
            await call()
            done += 1
            if clock() > end:
                break
        return done

    return sum(await asyncio.gather(*(worker() for _ in range(in_flight))))


def main() -> None:
    """Run the client that the command line names."""
    name, in_flight, requests, url, *rest = sys.argv[1:]
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    counts = int(in_flight), int(requests)
    if name in ENGINES:
        seconds = ENGINES[name](url, *counts)
    else:
        limit = float(rest[0]) if rest else float("inf")
        seconds = asyncio.run(_measure(CLIENTS[name], url, *counts, limit))
    print(json.dumps({"client": name, "micros": 1e6 * seconds}))


if __name__ == "__main__":
    main()
