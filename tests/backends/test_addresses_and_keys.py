"""Where each backend looks for its server and its key."""

from __future__ import annotations

import pytest

from llmengine import ConfigError, EngineConfig

VARIABLES = ["VLLM_BASE_URL", "VLLM_API_KEY", "OLLAMA_HOST", "OPENAI_API_KEY"]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the variables of this machine that a backend reads."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(
    ("backend", "endpoint", "root_url", "path"),
    [
        ("vllm_api", None, "http://localhost:8000", "/v1/chat/completions"),
        ("vllm_api", "https://a.example", "https://a.example", "/v1/chat/completions"),
        ("ollama_api", None, "http://localhost:11434", "/api/chat"),
        ("ollama_api", "http://b:1/v1", "http://b:1", "/v1/chat/completions"),
        ("openai_compatible", "http://c:2/v1/", "http://c:2", "/v1/chat/completions"),
    ],
)
def test_every_engine_has_a_base_for_sdks_and_a_root(
    backend: str, endpoint: str | None, root_url: str, path: str
) -> None:
    """base_url is for an OpenAI SDK; url is where the engine itself posts."""
    engine = EngineConfig(backend=backend, model="m", endpoint=endpoint).engine

    assert engine.base_url == f"{root_url}/v1"
    assert engine.root_url == root_url
    assert engine.backend.url == root_url + path


@pytest.mark.parametrize(
    ("backend", "variable", "value", "root_url"),
    [
        ("vllm_api", "VLLM_BASE_URL", "https://h100.example/v1", "https://h100.example"),
        ("ollama_api", "OLLAMA_HOST", "0.0.0.0", "http://127.0.0.1:11434"),
        ("ollama_api", "OLLAMA_HOST", "box:9", "http://box:9"),
    ],
)
def test_environment_moves_the_default(
    monkeypatch: pytest.MonkeyPatch, backend: str, variable: str, value: str, root_url: str
) -> None:
    """The variables that people already set are read."""
    monkeypatch.setenv(variable, value)

    assert EngineConfig(backend=backend, model="m").engine.root_url == root_url


def test_openai_compatible_needs_an_endpoint() -> None:
    """It has no default address."""
    engine = EngineConfig(name="gate", backend="openai_compatible", model="m").engine

    with pytest.raises(ConfigError, match=r"engine 'gate': endpoint: .* has no default"):
        engine.generate("hi")


def test_openais_key_goes_to_no_other_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_API_KEY is not sent to a server that is not OpenAI's."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-belongs-to-openai")

    for backend in ("vllm_api", "ollama_api", "openai_compatible"):
        engine = EngineConfig(backend=backend, model="m", endpoint="http://a.example").engine
        assert engine.api_key is None
        assert "Authorization" not in engine.backend.address.headers


def test_vllms_own_key_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """VLLM_API_KEY is the key of a vLLM server."""
    monkeypatch.setenv("VLLM_API_KEY", "vllm-server-key")

    assert EngineConfig(backend="vllm_api", model="m").engine.api_key == "vllm-server-key"
