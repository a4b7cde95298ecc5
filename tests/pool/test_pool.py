"""Engines by name: one per name, made at the first use, and closed together."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from llmengine import (
    ConfigError,
    EngineConfig,
    EnginePool,
    InvalidFieldError,
    OpenAICompatibleWorker,
    Price,
    Timeouts,
    UnknownEngineError,
    get_engine,
    get_engine_config,
    get_worker,
    register_engine,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmengine import Engine

pytestmark = pytest.mark.usefixtures("clean_folder")

MOCK = EngineConfig(name="a", backend="mock", model="mock")
ENGINES = """
- {name: laptop, backend: mock, model: mock}
- {name: h100, backend: vllm_api, model: m, endpoint: https://h100.example/v1, api_key_env: A_KEY}
"""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: register_engine(name="a", backend="mock"),  # type: ignore[call-arg]
            "'name', 'backend'; write register_engine(EngineConfig(name=..., backend=...))",
        ),
        (lambda: register_engine("a"), "by an EngineConfig, not by a str"),  # type: ignore[arg-type]
        (lambda: EnginePool(5), "EnginePool: configs is a int"),  # type: ignore[arg-type]
        (lambda: get_worker(ollama=True), "did you mean 'use_ollama'?"),  # type: ignore[call-arg]
        (lambda: Timeouts(read=5), "Timeouts has no argument 'read'; known are connect, first"),  # type: ignore[call-arg]
        (lambda: Price(inptu=5), "did you mean 'input'?"),  # type: ignore[call-arg]
        (
            lambda: OpenAICompatibleWorker("http://x", "m", api_kee="sk-secret"),
            "api_kee: is not a field of an engine; did you mean 'api_key'?",
        ),
    ],
)
def test_wrong_argument_says_what_is_meant(make: Callable[[], object], words: str) -> None:
    """The error is an InvalidFieldError, and shows no value that may be a key."""
    with pytest.raises(InvalidFieldError) as caught:
        make()

    assert words in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_engine_is_made_once() -> None:
    """The same name gives the same engine, and another name gives another."""
    with EnginePool([MOCK, MOCK.model_copy(update={"name": "b"})]) as pool:
        assert pool.get("a") is pool.get("a")
        assert pool.get("a") is not pool.get("b")
        assert pool.names() == ["a", "b"]


def test_threads_get_the_same_engine() -> None:
    """However many threads ask for it at once, one engine is made."""
    with EnginePool([MOCK]) as pool, ThreadPoolExecutor(8) as threads:
        engines = list(threads.map(pool.get, ["a"] * 64))

    assert len(set(map(id, engines))) == 1


def test_pool_answers_from_a_file(clean_folder: Path) -> None:
    """A pool can be read from an engines file; no engine is made before it is used."""
    path = clean_folder / "engines.yaml"
    path.write_text(ENGINES, "utf-8")

    with EnginePool.from_file(path) as pool:
        assert pool.get("laptop").generate("Hello")[0].outputs[0].text
        with pytest.raises(ConfigError, match=r"engine 'h100': .*A_KEY is not set"):
            pool.get("h100")


def test_close_releases_every_engine() -> None:
    """The servers of closed engines are stopped; the next call for the name makes a new engine."""
    pool = EnginePool([MOCK])
    before: Any = pool.get("a")
    server = before.server
    host, port = urlsplit(server.root_url).netloc.split(":")

    pool.close()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)
    after: Any = pool.get("a")
    assert after is not before
    assert after.generate("x")[0].outputs[0].text
    pool.close()


def test_closing_leaves_the_callers_own_client_alone() -> None:
    """The pool's engine is not the engine of the configuration that it was given."""
    own: Any = MOCK.engine
    server = own.server
    with EnginePool([MOCK]) as pool:
        pool.get("a").generate("x")

    assert own.server is server
    own.close()


def test_unknown_name_lists_the_known_ones() -> None:
    """The error is a ConfigError and a KeyError, and its text is readable."""
    pool = EnginePool({"a": MOCK})

    with pytest.raises(UnknownEngineError) as caught:
        pool.get("olama")

    assert isinstance(caught.value, ConfigError)
    assert isinstance(caught.value, KeyError)
    assert str(caught.value) == (
        "unknown engine 'olama'; registered: a; "
        "from the environment: llamacpp, nemotron, ollama, openai, vllm"
    )


def test_name_of_another_configuration() -> None:
    """An equal configuration is accepted; another one needs replace=True, and a new engine."""
    with EnginePool([MOCK]) as pool:
        pool.register(MOCK)
        first = pool.get("a")
        other = MOCK.model_copy(update={"max_retries": 0})
        with pytest.raises(ConfigError, match="'a' is registered with another configuration"):
            pool.register(other)

        pool.register(other, replace=True)

        assert pool.get("a") is not first
        assert pool.config("a").max_retries == 0


def test_process_has_a_registry() -> None:
    """All parts of a program share the registered engines."""
    config = MOCK.model_copy(update={"name": "test-of-the-registry"})

    register_engine(config)

    assert get_engine_config("test-of-the-registry") == config
    engine: Engine = get_engine("test-of-the-registry")
    assert engine.generate("x")[0].outputs[0].text
    engine.close()
    with pytest.raises(KeyError):
        get_engine_config("nobody")
