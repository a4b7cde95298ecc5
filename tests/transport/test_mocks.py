"""Engines while another tool has replaced an HTTP client, as in tests of an application."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import respx
from aioresponses import aioresponses

from llmengine import EngineConfig, NotMockedError
from llmengine.mock import MockServer, Script

with suppress(ImportError):  # before an inner run of pytest, which forgets what it has imported
    import httpcore2  # noqa: F401
    import openai  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WEATHER = "http://weather.invalid/today"
KEY = "sk-not-to-be-sent"


def _engine(url: str, **config: Any) -> Any:
    fields = {"backend": "openai_compatible", "model": "m", "endpoint": url, "api_key": KEY}
    return EngineConfig(**(fields | config)).engine


@contextmanager
def _aiohttp_mocked() -> Iterator[None]:
    with aioresponses():
        yield


@contextmanager
def _httpx2_mocked() -> Iterator[None]:
    pytest.importorskip("pytest_httpx2")
    with respx.mock(using="httpcore2"):
        yield


def _mocked_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(*_: object) -> httpx.Response:
        raise AssertionError("not reached")

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", answer)


@pytest.mark.parametrize("transport", ["auto", "httpx"])
@pytest.mark.parametrize("using", ["httpcore", "httpx"])
def test_mock_server_is_reached_while_respx_is_active(using: str, transport: str) -> None:
    """An application's weather API is mocked, and its LLM is a server of this process."""
    with MockServer(script=Script(replies=["Take an umbrella."]), api_key=KEY) as server:
        engine = _engine(server.base_url, transport=transport, model=server.model)
        with respx.mock(using=using) as mock:
            mock.get(WEATHER).respond(json={"rain": True})
            assert httpx.get(WEATHER).json() == {"rain": True}
            (output,) = engine.generate("It rains.")

    assert output.outputs[0].text == "Take an umbrella."


def test_mock_server_is_reached_while_pytest_httpx_is_active(httpx_mock: Any) -> None:
    """The same for pytest-httpx, also by another name of this machine, and as a stream."""
    httpx_mock.add_response(url=WEATHER, json={"rain": True})
    with MockServer(script=Script(replies=["Take an umbrella."])) as server:
        url = server.base_url.replace("127.0.0.1", "localhost")
        assert httpx.get(WEATHER).json() == {"rain": True}
        deltas = [d.text for d in _engine(url, model=server.model).stream("It rains.")]

    assert "".join(deltas) == "Take an umbrella."


def test_mock_server_is_reached_while_aiohttp_is_mocked() -> None:
    """The tool aioresponses mocks aiohttp, so httpx is used."""
    with MockServer() as server, aioresponses():
        assert _engine(server.base_url, model=server.model).generate("It rains.")


@pytest.mark.parametrize(
    ("mocked", "tool", "config"),
    [
        pytest.param(respx.mock, "respx", {"transport": "asyncio"}, id="respx-asyncio"),
        pytest.param(respx.mock, "respx", {"transport": "aiohttp"}, id="respx-aiohttp"),
        pytest.param(respx.mock, "respx", {"backend": "openai"}, id="respx-openai_sdk"),
        pytest.param(_httpx2_mocked, "respx", {}, id="httpx2-aiohttp"),
        pytest.param(_aiohttp_mocked, "aioresponses", {"transport": "httpx"}, id="aiohttp-httpx"),
        pytest.param(
            _aiohttp_mocked, "aioresponses", {"transport": "asyncio"}, id="aiohttp-asyncio"
        ),
        pytest.param(_aiohttp_mocked, "aioresponses", {"backend": "openai"}, id="aiohttp-openai"),
    ],
)
def test_no_engine_goes_past_a_mock(
    raw_server: Any, mocked: Callable[..., Any], tool: str, config: dict[str, str]
) -> None:
    """A real server is not reached, whatever client the engine uses, and the error says why."""
    if config.get("backend") == "openai":
        pytest.importorskip("openai")
    server = raw_server(lambda _, c: c.reply({}))
    engine = _engine(f"{server.url}/v1", **config)

    with mocked():
        (result,) = engine.results("hi")
        with pytest.raises(NotMockedError):
            list(engine.stream("hi"))

    assert isinstance(result.error, NotMockedError)
    assert str(result.error).startswith(f"nothing was sent to {server.url}/v1/")
    assert tool in str(result.error)
    assert server.requests == []


def test_replaced_method_counts_as_a_mock(raw_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may replace a method of httpx itself; its module is named then."""
    server = raw_server(lambda _, c: c.reply({}))
    _mocked_by_hand(monkeypatch)

    (result,) = _engine(server.url, transport="aiohttp").results("hi")

    assert __name__.partition(".")[0].replace("_", "-") in str(result.error)
    assert server.requests == []


def test_request_without_an_answer_in_respx_is_not_repeated() -> None:
    """The error names the tool, and not an assertion in the middle of the call."""
    with respx.mock():
        (result,) = _engine("http://llm.invalid/v1", max_retries=2).results("hi")

    assert isinstance(result.error, NotMockedError)
    assert "respx has replaced" in str(result.error)
    assert result.attempts == 1


@pytest.mark.httpx_mock(assert_all_requests_were_expected=False)
def test_request_without_an_answer_in_pytest_httpx_is_not_repeated(httpx_mock: Any) -> None:
    """pytest-httpx raises a time-out of httpx, which would be sent again."""
    (result,) = _engine("http://llm.invalid/v1", max_retries=2).results("hi")

    assert isinstance(result.error, NotMockedError)
    assert "pytest-httpx has replaced" in str(result.error)
    assert result.attempts == 1


def test_request_of_the_sdk_without_an_answer_is_not_repeated() -> None:
    """The SDK hides the exception of respx in one of its own."""
    pytest.importorskip("openai")
    with _httpx2_mocked():
        (result,) = _engine("http://llm.invalid/v1", backend="openai", max_retries=2).results("hi")

    assert isinstance(result.error, NotMockedError)
    assert "respx" in str(result.error)
