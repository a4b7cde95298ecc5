"""A transport of a project's own, chosen by its name."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    APIConnectionError,
    APITimeoutError,
    EngineConfig,
    InvalidFieldError,
    UnexpectedResponseError,
)
from llmengine.transport.aiohttp_transport import AiohttpTransport
from llmengine.transport.base import HTTPStream
from llmengine.transport.loop import shutdown
from llmengine.transport.registry import register_transports, unregister_transports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from llmengine.transport.base import HTTPReply, HTTPRequest


class Counting(AiohttpTransport):
    """Sends as the default transport does, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[str] = []
        self.closed = False

    async def fetch(self, request: HTTPRequest) -> HTTPReply:
        """Count and send."""
        self.requests.append(request.url)
        return await super().fetch(request)

    def stream(self, request: HTTPRequest) -> AbstractAsyncContextManager[HTTPStream]:
        """Count and send."""
        self.requests.append(request.url)
        return super().stream(request)

    async def aclose(self) -> None:
        """Close, and remember it."""
        self.closed = True
        await super().aclose()


class Failing(AiohttpTransport):
    """Fails with an error of its own, before the answer or within a stream."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def fetch(self, request: HTTPRequest) -> HTTPReply:
        """Fail."""
        raise self._error

    @asynccontextmanager
    async def stream(self, request: HTTPRequest) -> AsyncIterator[HTTPStream]:
        """Open a stream that fails after its first chunk."""
        async with super().stream(request) as answer:
            yield HTTPStream(answer.status, answer.headers, self._one_chunk(answer))

    async def _one_chunk(self, answer: HTTPStream) -> AsyncIterator[bytes]:
        yield await anext(aiter(answer.chunks))
        raise self._error


@pytest.fixture
def register() -> Iterator[Callable[[Callable[[], Any]], None]]:
    """Registers a factory under the name ``mine``, for one test."""
    yield lambda factory: register_transports({"mine": factory})
    shutdown()
    unregister_transports(["mine"])


def _engine(url: str, transport: str = "mine") -> Any:
    config = EngineConfig(
        backend="openai_compatible", model="m", endpoint=url, transport=transport, max_retries=0
    )
    return config.engine


def test_engine_sends_through_it(register: Any, raw_server: Any, chat: Any, chunk: Any) -> None:
    """Whole answers and streams, over one transport, which is closed with the loop."""
    made: list[Counting] = []

    def handler(request: Any, connection: Any) -> None:
        if request.json.get("stream"):
            connection.start_sse()
            connection.sse(chunk("streamed"), chunk(finish="stop"), ...)
            connection.chunk(b"")
        else:
            connection.reply(chat("whole"))

    def factory() -> Counting:
        made.append(Counting())
        return made[-1]

    register(factory)
    engine = _engine(raw_server(handler).url)

    assert engine.generate("hi")[0].outputs[0].text == "whole"
    assert "".join(delta.text for delta in engine.stream("hi")) == "streamed"

    (transport,) = made
    assert transport.requests == [f"{engine.base_url}/chat/completions"] * 2
    assert not transport.closed
    shutdown()
    assert transport.closed


@pytest.mark.parametrize(
    ("error", "ours", "message"),
    [
        (ConnectionResetError("reset by peer"), APIConnectionError, "broke: reset by peer"),
        (TimeoutError(), APITimeoutError, "was not complete within"),
        (LookupError("no route"), UnexpectedResponseError, "LookupError: no route"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_its_errors_become_ours(
    register: Any, raw_server: Any, chunk: Any, error: Any, ours: Any, message: str, streamed: bool
) -> None:
    """An error of sockets or clocks is what it is with the built-in transports."""

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(chunk("Half"))
        connection.pause(30)

    register(lambda: Failing(error))
    engine = _engine(raw_server(handler).url)

    with pytest.raises(ours) as caught:
        _ask(engine, streamed=streamed)

    assert type(caught.value) is ours
    assert message in str(caught.value)


def _ask(engine: Any, *, streamed: bool) -> None:
    if streamed:
        list(engine.stream("hi"))
    else:
        raise engine.results("hi")[0].error


def test_unknown_name() -> None:
    """One line that names the engine, the field and what is known."""
    with pytest.raises(InvalidFieldError) as caught:
        EngineConfig(name="e", backend="mock", model="m", transport="htpx")

    assert str(caught.value) == (
        "engine 'e': transport: unknown transport 'htpx'; did you mean 'httpx'? "
        "known are aiohttp, asyncio, auto, httpx"
    )


@pytest.mark.parametrize(
    ("factories", "message"),
    [
        ({"httpx": Counting}, "there is a transport 'httpx' already"),
        ({"mine": 7}, "transport 'mine' is 7; give a class or a function"),
    ],
)
def test_registration_that_is_refused(factories: Any, message: str) -> None:
    """A name has one meaning, and a factory can be called."""
    with pytest.raises(InvalidFieldError, match=message):
        register_transports(factories)


def test_transport_of_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw_server: Any, chat: Any
) -> None:
    """A package names its factory in the entry-point group ``llmengine.transports``."""
    (tmp_path / "packaged.py").write_text(
        "from llmengine.transport.httpx_transport import HttpxTransport\n"
        "made = []\n"
        "def factory():\n"
        "    made.append(HttpxTransport())\n"
        "    return made[-1]\n"
    )
    facts = tmp_path / "packaged-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: packaged\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[llmengine.transports]\npackaged = packaged:factory\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    server = raw_server(lambda _, c: c.reply(chat("hello")))

    output = _engine(server.url, "packaged").generate("hi")[0]

    import packaged  # noqa: PLC0415 - found only now

    assert output.outputs[0].text == "hello"
    assert len(packaged.made) == 1
    shutdown()
