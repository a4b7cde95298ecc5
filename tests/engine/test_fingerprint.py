"""Who answers behind an engine: as much as its server tells."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    APIConnectionError,
    AuthenticationError,
    EngineConfig,
    Fingerprint,
    InternalServerError,
)
from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import Engine

ROW = {"id": "m", "owned_by": "vllm", "root": "org/M", "max_model_len": 2048}


def _models(*rows: Any, status: int = 200) -> Callable[..., None]:
    def handler(request: Any, connection: Any) -> None:
        if request.path.endswith("/models"):
            connection.reply({"data": list(rows)}, status=status)
        else:
            connection.reply({"detail": "Not Found"}, status=404)

    return handler


def test_what_a_server_tells(engine_for: Callable[..., tuple[Engine, Any]]) -> None:
    """The served model's row is read; a server without a version route has none."""
    engine, server = engine_for(_models({"id": "other"}, ROW))
    assert engine.fingerprint() == Fingerprint(
        f"{server.url}/v1", None, "m", ("other", "m"), "org/M", 2048, "vllm"
    )


def test_an_engine_without_a_model_finds_the_only_one(
    engine_for: Callable[..., tuple[Engine, Any]],
) -> None:
    """One served model can be meant by no name; of two, neither is taken."""
    engine, _ = engine_for(_models(ROW), model="")
    assert engine.fingerprint().model == "m"
    engine, _ = engine_for(_models(ROW, {"id": "other"}), model="")
    assert engine.fingerprint().model is None


def test_a_server_without_a_list_tells_nothing(
    engine_for: Callable[..., tuple[Engine, Any]],
) -> None:
    """No such route is no failure: the model is the configured one."""
    engine, server = engine_for(_models(status=404))
    assert engine.fingerprint() == Fingerprint(f"{server.url}/v1", model="m")


@pytest.mark.parametrize(
    ("status", "error"), [(401, AuthenticationError), (503, InternalServerError)]
)
def test_a_failing_server_is_an_error(
    engine_for: Callable[..., tuple[Engine, Any]], status: int, error: type[Exception]
) -> None:
    """A fingerprint without facts would look like that of a silent server."""
    engine, _ = engine_for(_models(status=status))
    with pytest.raises(error):
        engine.fingerprint()


def test_nobody_there() -> None:
    """Where nothing listens the error is that of every call."""
    config = EngineConfig(backend="vllm_api", model="m", endpoint="http://127.0.0.1:9")
    with pytest.raises(APIConnectionError):
        config.engine.fingerprint()


@pytest.mark.parametrize(
    ("backend", "path"), [("vllm_api", "/version"), ("ollama_api", "/api/version")]
)
def test_the_version_is_asked_for_where_the_backend_has_it(backend: str, path: str) -> None:
    """VLLM and Ollama each have a route of their own, and Ollama knows the weights' digest."""
    with MockServer() as server:
        engine = EngineConfig(backend=backend, model="mock", endpoint=server.root_url).engine
        found = asyncio.run(engine.afingerprint())
        asked = [call.path for call in server.calls]
    assert path in asked
    assert found.version is not None
    assert (found.model_digest is not None) == (backend == "ollama_api")


def test_the_embedded_engine_knows_its_file(embedded: EngineConfig) -> None:
    """llama.cpp's build and the hash of the weights are known where the server is our own."""
    found = embedded.engine.fingerprint()
    assert found.version is not None
    assert found.version.startswith("b")
    assert found.model_digest is not None
    assert len(found.model_digest) == len("sha256:") + 64
