"""Endpoints that have more than a host, and headers that cannot be sent."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import APIConnectionError, ConfigError, EngineConfig

if TYPE_CHECKING:
    from collections.abc import Callable

PASSWORD = "s3cret@w0rd"
TRANSPORTS = ["asyncio", "aiohttp", "httpx"]


@pytest.fixture
def server(raw_server: Callable[[Any], Any], chat: Any) -> Any:
    """A server that answers every request."""

    def handler(request: Any, connection: Any) -> None:
        connection.reply(chat() if request.method == "POST" else {"data": [{"id": "m"}]})

    return raw_server(handler)


def _config(endpoint: str, **fields: Any) -> EngineConfig:
    given = {"backend": "openai_compatible", "model": "m", "max_retries": 0} | fields
    return EngineConfig(endpoint=endpoint, **given)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_query_string_goes_with_every_request(server: Any, transport: str) -> None:
    """``?api-version=`` of Azure is part of the address."""
    address = f"{server.url}/openai/deployments/d?api-version=2024-10-21&x=1"
    engine = _config(address, transport=transport, headers={"api-key": "azure-key"}).engine

    engine.generate("Hi")
    engine.fingerprint()

    base = "/openai/deployments/d"
    query = "?api-version=2024-10-21&x=1"
    assert [r.path for r in server.requests[:2]] == [
        f"{base}/chat/completions{query}",
        f"{base}/models{query}",
    ]
    assert (engine.base_url, engine.root_url) == (server.url + base, server.url + base)


def test_query_string_goes_through_the_sdk(server: Any) -> None:
    """The SDK of OpenAI sends it too."""
    pytest.importorskip("openai", reason="pip install 'pytest-llmengine[openai]'")
    options = {"api": "chat"}
    config = _config(f"{server.url}/v1?api-version=1", backend="openai", options=options)

    config.engine.generate("Hi")

    assert server.requests[0].path == "/v1/chat/completions?api-version=1"


@pytest.mark.parametrize("backend", ["openai_compatible", "openai"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_user_and_password_are_basic_authentication(
    server: Any, backend: str, transport: str
) -> None:
    """They are sent in the header that browsers and curl send, and never shown."""
    fields: dict[str, Any] = {"backend": backend, "transport": transport}
    if backend == "openai":
        pytest.importorskip("openai", reason="pip install 'pytest-llmengine[openai]'")
        fields = {"backend": backend, "options": {"api": "chat"}}
    address = server.url.replace("://", "://bob:s3cret%40w0rd@")
    engine = _config(address, **fields).engine

    engine.generate("Hi")

    expected = b64encode(f"bob:{PASSWORD}".encode()).decode()
    assert server.requests[0].headers["authorization"] == f"Basic {expected}"
    assert engine.base_url == f"{server.url}/v1"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_password_is_in_no_error(transport: str) -> None:
    """If no server listens, the message shows the address without them."""
    endpoint = "http://bob:s3cret%40w0rd@127.0.0.1:1"

    (result,) = _config(endpoint, transport=transport).engine.results("Hi")

    assert "cannot connect to http://127.0.0.1:1/v1/chat/completions" in str(result.error)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_request_without_a_connection_costs_nothing(transport: str) -> None:
    """It cannot have reached the server, so no part of the cost is unknown."""
    fields = {"price": {"input": 1, "output": 1}, "max_retries": 1, "retry_wait": 0.001}

    (result,) = _config("http://127.0.0.1:1", transport=transport, **fields).engine.results("Hi")

    assert isinstance(result.error, APIConnectionError)
    assert not result.error.connected
    assert (result.attempts, result.uncounted, result.cost) == (2, 0, 0)


@pytest.mark.parametrize(
    "fields", [{"api_key": "sk-some-key"}, {"headers": {"authorization": "Bearer sk-some-key"}}]
)
def test_password_beside_a_key_is_refused(fields: dict[str, Any]) -> None:
    """A request has only one Authorization header."""
    config = _config("http://bob:s3cret%40w0rd@127.0.0.1:1", **fields)

    with pytest.raises(
        ConfigError, match="a user and a password, but there is also a key"
    ) as caught:
        _ = config.engine

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["http://bob:s3c/ret@host", "http://bob:s3cret@:80"])
def test_broken_address_shows_no_password(endpoint: str) -> None:
    """The text before the @ is not quoted."""
    with pytest.raises(ConfigError, match="percent-encode the user and the password") as caught:
        _config(endpoint).engine.generate("Hi")

    assert "s3c" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("key", ["sk-one\r\nX-Evil: 1", "sk-one\nsk-two", "sk-\x00", "sk-é"])
def test_key_that_no_header_can_carry_is_refused(key: str) -> None:
    """A line break would start another header; the message does not show the key."""
    with pytest.raises(ConfigError, match="api_key: it holds a line break") as caught:
        _ = _config("http://127.0.0.1:1", api_key=key, name="mine").engine

    assert "'mine'" in str(caught.value)
    assert "sk-" not in str(caught.value)


def test_line_break_after_a_key_is_removed(server: Any) -> None:
    """Files and secrets often end with one."""
    engine = _config(server.url, api_key="sk-from-a-file\n").engine

    engine.generate("Hi")

    assert server.requests[0].headers["authorization"] == "Bearer sk-from-a-file"
    assert engine.api_key == "sk-from-a-file"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("X-Title", "a\r\nX-Evil: 1", "the value of 'X-Title' holds a line break"),
        ("X Title", "a", "'X Title' is not the name of a header"),
        ("X:", "a", "'X:' is not the name of a header"),
    ],
)
def test_header_that_cannot_be_sent_is_refused(name: str, value: str, words: str) -> None:
    """The error comes when the engine is made, and does not show the value."""
    with pytest.raises(ConfigError, match=words) as caught:
        _ = _config("http://127.0.0.1:1", headers={name: value}).engine

    assert "Evil" not in str(caught.value)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_header_may_hold_any_letter(server: Any, transport: str) -> None:
    """Both transports send UTF-8."""
    _config(server.url, transport=transport, headers={"X-Title": "Café"}).engine.generate("Hi")

    assert server.requests[0].headers["x-title"] == "Café"
