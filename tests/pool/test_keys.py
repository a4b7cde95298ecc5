"""A key is sent to the address that it was set with, and to no other."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from llmengine import ConfigError, EngineConfig, EnginePool
from llmengine.pool.environment import read_variables

pytestmark = pytest.mark.usefixtures("clean_folder")

KEY = "sk-for-one-address-only"


def _engine(backend: str, endpoint: str | None = None) -> Any:
    return EngineConfig(name="e", backend=backend, model="m", endpoint=endpoint).engine


@pytest.mark.parametrize(
    ("backend", "endpoint", "sent"),
    [
        ("vllm_api", None, True),
        ("vllm_api", "https://gpu.example/v1", True),
        ("vllm_api", "https://gpu.example:443", True),
        ("vllm_api", "https://gpu.example:8443/v1", False),
        ("vllm_api", "http://gpu.example/v1", False),
        ("vllm_api", "https://other.example/v1", False),
        ("vllm_api", "https://gpu.example.evil.example/v1", False),
        ("vllm_api", "http://localhost:8000/v1", False),
        ("openai_compatible", "https://gpu.example/v1", False),
    ],
)
def test_key_goes_to_its_own_address(
    backend: str, endpoint: str | None, sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scheme, host and port must be those of the address that was set with the key."""
    monkeypatch.setenv("VLLM_BASE_URL", "https://gpu.example/v1")
    monkeypatch.setenv("VLLM_API_KEY", KEY)

    engine = _engine(backend, endpoint)

    assert engine.api_key == (KEY if sent else None)
    assert ("Authorization" in engine.backend.address.headers) == sent


@pytest.mark.parametrize(
    ("endpoint", "sent"),
    [(None, True), ("http://127.0.0.1:8000", True), ("https://other.example", False)],
)
def test_key_without_address_is_for_the_default(
    endpoint: str | None, sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key without an address belongs to the default address of the backend."""
    monkeypatch.setenv("VLLM_API_KEY", KEY)

    assert _engine("vllm_api", endpoint).api_key == (KEY if sent else None)


def test_each_address_has_its_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of litellm are a pair of their own, also if vLLM's are set."""
    monkeypatch.setenv("VLLM_BASE_URL", "http://a:1")
    monkeypatch.setenv("VLLM_API_KEY", "key-of-a")
    monkeypatch.setenv("HOSTED_VLLM_API_BASE", "http://b:1")
    monkeypatch.setenv("HOSTED_VLLM_API_KEY", "key-of-b")

    assert _engine("vllm_api").api_key == "key-of-a"
    assert _engine("vllm_api", "http://b:1/v1").api_key == "key-of-b"


@pytest.mark.parametrize("backend", ["vllm_api", "ollama_api", "openai_compatible", "mock"])
@pytest.mark.parametrize("base", [None, "https://gateway.example/v1"])
def test_openais_key_goes_nowhere_else(
    backend: str, base: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPENAI_API_KEY is for OpenAI, or for the OPENAI_BASE_URL that was set with it."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    if base:
        monkeypatch.setenv("OPENAI_BASE_URL", base)

    assert _engine(backend, "https://elsewhere.example/v1").api_key is None


def test_openais_key_goes_to_the_base_url_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that was set together with the key gets it."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gateway.example/v1")

    engine = _engine("openai_compatible")

    assert (engine.base_url, engine.api_key) == ("https://gateway.example/v1", KEY)


def test_file_cannot_redirect_a_key(
    env_file: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The key in the environment is not sent to an address from a .env file."""
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    env_file(VLLM_BASE_URL="https://evil.example/v1", VLLM_MODEL="m")

    with caplog.at_level(logging.WARNING, "llmengine"):
        engine = EnginePool().get("vllm")

    assert (engine.root_url, engine.api_key) == ("https://evil.example", None)
    assert "VLLM_API_KEY is in the environment, but its address is in .env" in caplog.text


def test_file_cannot_quote_a_key(env_file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A .env file cannot read variables of the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    env_file(
        VLLM_BASE_URL="https://evil.example/v1", VLLM_API_KEY="${OPENAI_API_KEY}", VLLM_MODEL="m"
    )

    assert EnginePool().get("vllm").api_key == "${OPENAI_API_KEY}"


def test_named_key_and_address_in_two_places(
    env_file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that the configuration names, and an address from another source, are an error."""
    monkeypatch.setenv("MY_KEY", KEY)
    env_file(VLLM_BASE_URL="https://evil.example/v1")
    named = EngineConfig(name="e", backend="vllm_api", model="m", api_key_env="MY_KEY")
    literal = EngineConfig(name="l", backend="vllm_api", model="m", api_key=KEY)

    for config in (named, literal):
        with pytest.raises(ConfigError, match=r"is from \.env, but its key is not") as e:
            EnginePool([config]).get(config.name)
        assert KEY not in str(e.value)


def test_named_key_goes_to_the_configured_endpoint(env_file: Any) -> None:
    """If the configuration has both, no variable is used."""
    env_file(MY_KEY=KEY, VLLM_BASE_URL="https://other.example")
    config = EngineConfig(
        name="e", backend="vllm_api", model="m", endpoint="http://a.example", api_key_env="MY_KEY"
    )

    engine = EnginePool([config]).get("e")

    assert (engine.root_url, engine.api_key) == ("http://a.example", KEY)


def test_key_that_was_held_back_is_explained(
    raw_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error for a 401 says that a key is set for another address."""
    server = raw_server(lambda _, c: c.reply({"error": {"message": "who?"}}, status=401))
    monkeypatch.setenv("VLLM_API_KEY", KEY)

    (result,) = _engine("vllm_api", server.url).results("hi")

    assert "VLLM_API_KEY is set, but for another address" in str(result.error)
    assert "authorization" not in server.requests[0].headers


def test_wrong_address_that_is_not_used_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not an address is an error only for an engine that needs it."""
    monkeypatch.setenv("VLLM_BASE_URL", "ftp://what")
    monkeypatch.setenv("VLLM_API_KEY", KEY)

    assert _engine("vllm_api", "http://a.example").api_key is None
    with pytest.raises(ConfigError, match="ftp://what"):
        _engine("vllm_api").generate("hi")


def test_texts_show_no_key(env_file: Any) -> None:
    """A key from a file is masked in every text, like any other key."""
    env_file(VLLM_MODEL="m", VLLM_API_KEY=KEY)

    engine = EnginePool().get("vllm")

    assert engine.api_key == KEY
    assert KEY not in f"{engine!r} {engine.config!r} {read_variables()!r}"
