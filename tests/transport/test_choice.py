"""Which transport a call uses, and that both behave alike."""

from __future__ import annotations

import functools
from typing import Any

import aiohttp
import httpx
import pytest
import respx
from aioresponses import aioresponses

from llmengine import APIConnectionError, APITimeoutError, EngineConfig
from llmengine.transport import loop


def _engine(url: str, **config: Any) -> Any:
    fields = {"backend": "openai_compatible", "model": "m", "endpoint": url, "max_retries": 0}
    return EngineConfig(**(fields | config)).engine


@pytest.mark.parametrize("using", ["httpcore", "httpx"])
def test_mock_of_httpx_is_asked(chat: Any, using: str) -> None:
    """A respx mock answers, on any of httpx's layers; nothing is sent."""
    engine = _engine("http://nowhere.invalid/v1")

    with respx.mock(using=using) as mock:
        route = mock.post("http://nowhere.invalid/v1/chat/completions")
        route.mock(return_value=httpx.Response(200, json=chat("mocked")))
        (output,) = engine.generate("hi")

    assert output.outputs[0].text == "mocked"
    assert route.call_count == 1


def test_mock_of_aiohttp_is_asked() -> None:
    """An aioresponses mock answers, here with an error; nothing is sent."""
    url = "http://nowhere.invalid/v1"

    with aioresponses() as mock:
        mock.post(f"{url}/chat/completions", exception=aiohttp.ClientError("by the mock"))
        (result,) = _engine(url).results("hi")

    assert "broke: by the mock" in str(result.error)


@pytest.mark.parametrize("method", ["__init__", "_request"])
def test_tracing_of_aiohttp_sees_requests(
    raw_server: Any, chat: Any, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """As OpenTelemetry's, Sentry's and other tools wrap it."""
    seen: list[str] = []
    original = getattr(aiohttp.ClientSession, method)

    @functools.wraps(original)
    def traced(*args: Any, **kwargs: Any) -> Any:
        seen.append(method)
        return original(*args, **kwargs)

    monkeypatch.setattr(aiohttp.ClientSession, method, traced)
    loop.shutdown()  # a session that exists is not traced
    server = raw_server(lambda _, c: c.reply(chat()))

    _engine(server.url, transport="asyncio").generate("hi")
    assert seen == []
    _engine(server.url).generate("hi")
    assert seen == [method]


def test_after_the_mock_the_real_server_is_asked(raw_server: Any, chat: Any) -> None:
    """The transport is chosen for each call."""
    server = raw_server(lambda _, c: c.reply(chat("real")))
    engine = _engine(server.url)
    with respx.mock(assert_all_called=False) as mock:
        mock.post(f"{server.url}/v1/chat/completions").respond(json=chat("mocked"))
        mocked = engine.generate("hi")

    real = engine.generate("hi")

    assert [o[0].outputs[0].text for o in (mocked, real)] == ["mocked", "real"]


@pytest.mark.parametrize("transport", ["asyncio", "aiohttp", "httpx"])
def test_both_transports_carry_a_whole_answer(raw_server: Any, chat: Any, transport: str) -> None:
    """They send the same headers and give the same answer."""
    server = raw_server(lambda _, c: c.reply(chat("hello")))
    engine = _engine(server.url, transport=transport, headers={"X-Team": "a"})

    assert engine.generate("hi")[0].outputs[0].text == "hello"
    assert server.requests[0].headers["x-team"] == "a"
    assert server.requests[0].headers["user-agent"] == "llmengine"


def test_no_transport_keeps_cookies(sent: Any, chat: Any) -> None:
    """A cookie that a server sets is not sent back to it."""
    engine, server = sent(lambda _, c: c.reply(chat(), headers={"Set-Cookie": "session=1; Path=/"}))

    engine.generate(["one"])
    engine.generate(["two"])

    assert ["cookie" in request.headers for request in server.requests] == [False, False]


@pytest.mark.parametrize("transport", ["asyncio", "aiohttp", "httpx"])
def test_both_transports_carry_a_stream(raw_server: Any, chunk: Any, transport: str) -> None:
    """Deltas arrive one by one on either."""

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(chunk("Hel"), chunk("lo"), chunk(finish="stop"), ...)
        connection.chunk(b"")

    engine = _engine(raw_server(handler).url, transport=transport)

    assert "".join(d.text for d in engine.stream("hi")) == "Hello"


@pytest.mark.parametrize("transport", ["asyncio", "aiohttp", "httpx"])
def test_both_transports_name_a_server_that_is_not_there(transport: str) -> None:
    """A refused connection is a connection error with the address, not a time-out."""
    (result,) = _engine("http://127.0.0.1:9", transport=transport).results("hi")

    assert type(result.error) is APIConnectionError
    assert "cannot connect to http://127.0.0.1:9" in str(result.error)


@pytest.mark.parametrize("transport", ["asyncio", "aiohttp", "httpx"])
def test_both_transports_keep_the_total_clock(
    raw_server: Any, clock: Any, in_thread: Any, wait_until: Any, transport: str
) -> None:
    """The error has the name of the clock and its limit."""
    server = raw_server(lambda _, c: c.pause(120))

    asked = in_thread(_engine(server.url, transport=transport, timeout=20).results, "hi")
    wait_until(lambda: server.requests)
    clock.advance(21)
    (result,) = asked.result(60)

    assert isinstance(result.error, APITimeoutError)
    assert result.error.clock == "total"


@pytest.mark.parametrize("transport", ["asyncio", "aiohttp", "httpx"])
def test_both_transports_notice_a_cut_body(raw_server: Any, transport: str) -> None:
    """Half an answer is never taken for a whole one."""

    def handler(_: Any, connection: Any) -> None:
        connection.head(200, {"Content-Type": "application/json", "Content-Length": "500"})
        connection.send(b'{"id": "half')
        connection.drop()

    (result,) = _engine(raw_server(handler).url, transport=transport).results("hi")

    assert type(result.error) is APIConnectionError
