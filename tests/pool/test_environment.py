"""Engines that variables describe, in the environment or in a .env file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import ConfigError, EngineConfig, EnginePool

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("clean_folder")

KEY = "a-key-of-a-test"


@pytest.mark.parametrize(
    ("name", "variables", "expected"),
    [
        ("ollama", {"OLLAMA_MODEL": "q"}, ("ollama_api", "q", "http://localhost:11434", None)),
        (
            "ollama",
            {"OLLAMA_MODEL": "q", "OLLAMA_HOST": "box:9"},
            ("ollama_api", "q", "http://box:9", None),
        ),
        (
            "vllm",
            {"VLLM_MODEL": "q", "VLLM_API_BASE": "http://b:1/v1", "VLLM_API_KEY": KEY},
            ("vllm_api", "q", "http://b:1", KEY),
        ),
        (
            "vllm",
            {"VLLM_MODEL": "q", "HOSTED_VLLM_API_BASE": "http://h:1", "HOSTED_VLLM_API_KEY": KEY},
            ("vllm_api", "q", "http://h:1", KEY),
        ),
        (
            "llamacpp",
            {"LLAMACPP_MODEL": "q"},
            ("openai_compatible", "q", "http://localhost:8080", None),
        ),
        (
            "llamacpp",
            {"LLAMACPP_MODEL": "q", "LLAMACPP_API_BASE": "http://l:1", "OPENAI_API_KEY": KEY},
            ("openai_compatible", "q", "http://l:1", None),
        ),
        (
            "nemotron",
            {"NEMOTRON_API_URL": "https://n.example", "NEMOTRON_API_KEY": KEY},
            ("vllm_api", "nvidia/nemotron-3-8b-instruct", "https://n.example", KEY),
        ),
    ],
)
@pytest.mark.parametrize("where", ["environment", ".env"])
def test_variables_describe_engines(
    name: str,
    variables: dict[str, str],
    expected: tuple[Any, ...],
    where: str,
    env_file: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Variables have the same meaning in the environment and in a file."""
    if where == ".env":
        env_file(**variables)
    else:
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)

    engine = EnginePool().get(name)

    assert (engine.config.backend, engine.model, engine.root_url, engine.api_key) == expected
    assert engine.name == name


@pytest.mark.parametrize("base", [None, "https://gateway.example/v1"])
def test_openai_is_found_by_its_variables(base: str | None, env_file: Any) -> None:
    """The key is for OpenAI, or for the OPENAI_BASE_URL that was set with it."""
    more = {"OPENAI_BASE_URL": base} if base else {}
    env_file(OPENAI_MODEL="gpt-4.1-mini", OPENAI_API_KEY=KEY, **more)

    config = EnginePool().config("openai")

    assert (config.backend, config.model) == ("openai", "gpt-4.1-mini")
    assert config.endpoint == (base or "https://api.openai.com/v1")
    assert config.resolve_key() == KEY


@pytest.mark.parametrize(
    ("backend", "variables", "root_url"),
    [
        ("vllm_api", ["VLLM_BASE_URL", "VLLM_API_BASE", "HOSTED_VLLM_API_BASE"], "http://v:1"),
        (
            "ollama_api",
            ["OLLAMA_API_URL", "OLLAMA_BASE_URL", "OLLAMA_API_BASE", "OLLAMA_HOST"],
            "http://v:1",
        ),
        ("openai_compatible", ["OPENAI_BASE_URL", "OPENAI_API_BASE"], "http://v:1"),
    ],
)
def test_first_variable_wins(
    backend: str, variables: list[str], root_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each variable takes precedence over those after it; an empty one counts as not set."""
    for variable in reversed(variables):
        monkeypatch.setenv(variable, root_url)
        assert EngineConfig(backend=backend, model="m").engine.root_url == root_url
        monkeypatch.setenv(variable, "http://later:1")
    monkeypatch.setenv(variables[0], "")

    assert EngineConfig(backend=backend, model="m").engine.root_url == "http://later:1"


def test_environment_goes_over_the_file(env_file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the process takes precedence; the other variables of the file are used."""
    env_file(OLLAMA_MODEL="from-file", OLLAMA_API_URL="http://file:1")
    monkeypatch.setenv("OLLAMA_MODEL", "from-environment")

    engine = EnginePool().get("ollama")

    assert (engine.model, engine.root_url) == ("from-environment", "http://file:1")


def test_vllms_internal_variables_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """VLLM_PORT and VLLM_HOST_IP are for vLLM's own processes."""
    monkeypatch.setenv("VLLM_PORT", "9")
    monkeypatch.setenv("VLLM_HOST_IP", "10.0.0.1")

    engine = EngineConfig(backend="vllm_api", model="m").engine

    assert engine.root_url == "http://localhost:8000"


def test_file_serves_registered_engines(env_file: Any) -> None:
    """An engine without an address, or with the name of its key, gets both from the file."""
    env_file(VLLM_BASE_URL="http://gpu:8000/v1", MY_KEY=KEY)
    pool = EnginePool([EngineConfig(name="e", backend="vllm_api", model="m", api_key_env="MY_KEY")])

    engine = pool.get("e")

    assert (engine.base_url, engine.api_key) == ("http://gpu:8000/v1", KEY)


def test_environment_is_left_as_it_is(env_file: Any) -> None:
    """Reading a file sets no variable."""
    env_file(OLLAMA_MODEL="q", SOMETHING_ELSE="1")
    before = dict(os.environ)

    EnginePool().get("ollama")

    assert dict(os.environ) == before


def test_no_file_is_read_when_none_is_wanted(env_file: Any) -> None:
    """env_file=None means that only the environment is read."""
    env_file(OLLAMA_MODEL="q")

    with pytest.raises(ConfigError, match=r"'ollama': OLLAMA_MODEL is not set"):
        EnginePool(env_file=None).get("ollama")


def test_file_of_another_name(clean_folder: Path) -> None:
    """The file may have another name; the error for a missing file names it."""
    (clean_folder / "production.env").write_text("export OLLAMA_MODEL='q r'  # why not\n", "utf-8")

    assert EnginePool(env_file="production.env").get("ollama").model == "q r"
    with pytest.raises(ConfigError, match=r"test\.env: there is no such file"):
        EnginePool(env_file="test.env").get("ollama")


def test_file_that_is_not_text(clean_folder: Path) -> None:
    """The error for a file that is not text names the file."""
    (clean_folder / ".env").write_bytes(b"OLLAMA_MODEL=\xff")

    with pytest.raises(ConfigError, match=r"^\.env: cannot be read as UTF-8 text"):
        EnginePool().get("ollama")


def test_missing_address_names_its_variable() -> None:
    """Nemotron has no default address."""
    with pytest.raises(ConfigError, match=r"'nemotron': NEMOTRON_API_URL is not set"):
        EnginePool().get("nemotron")
