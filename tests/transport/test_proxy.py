"""The HTTP proxy of the environment, which both transports use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine import EngineConfig
from llmengine.transport import loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sets the proxy of the environment for new connections."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def use(proxy: str, no_proxy: str = "") -> None:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("no_proxy", no_proxy)
        loop.shutdown()

    yield use
    loop.shutdown()


@pytest.mark.parametrize("transport", ["asyncio", "aiohttp", "httpx"])
def test_requests_go_through_the_proxy(
    raw_server: Any, through: Any, chat: Any, chunk: Any, transport: str
) -> None:
    """The proxy gets the whole address; whole answers and streams come back."""

    def handler(request: Any, connection: Any) -> None:
        if request.json.get("stream"):
            connection.start_sse()
            connection.sse(chunk("by proxy"), chunk(finish="stop"), ...)
            connection.chunk(b"")
        else:
            connection.reply(chat("by proxy"))

    proxy = raw_server(handler)
    through(proxy.url)
    engine = EngineConfig(
        backend="openai_compatible",
        model="m",
        endpoint="http://model.invalid:8000/v1",
        transport=transport,
    ).engine

    assert engine.generate("hi")[0].outputs[0].text == "by proxy"
    assert "".join(d.text for d in engine.stream("hi")) == "by proxy"
    assert [r.path for r in proxy.requests] == ["http://model.invalid:8000/v1/chat/completions"] * 2
    assert proxy.requests[0].headers["host"] == "model.invalid:8000"


@pytest.mark.parametrize("transport", ["asyncio", "aiohttp", "httpx"])
def test_hosts_of_no_proxy_are_asked_directly(
    raw_server: Any, through: Any, chat: Any, transport: str
) -> None:
    """A server on this machine gets its requests without the proxy."""
    proxy = raw_server(lambda _, c: c.reply({}, status=502))
    server = raw_server(lambda _, c: c.reply(chat("directly")))
    through(proxy.url, no_proxy="127.0.0.1,localhost")
    engine = EngineConfig(
        backend="openai_compatible", model="m", endpoint=server.url, transport=transport
    ).engine

    assert engine.generate("hi")[0].outputs[0].text == "directly"
    assert not proxy.requests
