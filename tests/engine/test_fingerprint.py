"""The fingerprint of an engine: as much as its server says about itself."""

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


def test_fingerprint_of_a_server(engine_for: Callable[..., tuple[Engine, Any]]) -> None:
    """It has the row of the served model. A server without a version route has no version."""
    engine, server = engine_for(_models({"id": "other"}, ROW))
    assert engine.fingerprint() == Fingerprint(
        f"{server.url}/v1", None, "m", ("other", "m"), "org/M", 2048, "vllm"
    )


def test_an_engine_without_a_model_finds_the_only_one(
    engine_for: Callable[..., tuple[Engine, Any]],
) -> None:
    """Without a name, the only served model is meant; of two, none."""
    engine, _ = engine_for(_models(ROW), model="")
    assert engine.fingerprint().model == "m"
    engine, _ = engine_for(_models(ROW, {"id": "other"}), model="")
    assert engine.fingerprint().model is None


def test_server_without_a_list_of_models(
    engine_for: Callable[..., tuple[Engine, Any]],
) -> None:
    """A missing route is not a failure: the model is the configured one."""
    engine, server = engine_for(_models(status=404))
    assert engine.fingerprint() == Fingerprint(f"{server.url}/v1", model="m")


@pytest.mark.parametrize(
    ("status", "error"), [(401, AuthenticationError), (503, InternalServerError)]
)
def test_a_failing_server_is_an_error(
    engine_for: Callable[..., tuple[Engine, Any]], status: int, error: type[Exception]
) -> None:
    """A fingerprint without facts would look like that of a server without these routes."""
    engine, _ = engine_for(_models(status=status))
    with pytest.raises(error):
        engine.fingerprint()


def test_no_server_listens() -> None:
    """If no server listens, the error is the same as that of a call."""
    config = EngineConfig(backend="vllm_api", model="m", endpoint="http://127.0.0.1:9")
    with pytest.raises(APIConnectionError):
        config.engine.fingerprint()


@pytest.mark.parametrize(
    ("backend", "path"), [("vllm_api", "/version"), ("ollama_api", "/api/version")]
)
def test_version_of_a_backend_that_has_a_route(backend: str, path: str) -> None:
    """VLLM and Ollama have version routes, and Ollama knows the digest of the weights."""
    with MockServer() as server:
        engine = EngineConfig(backend=backend, model="mock", endpoint=server.root_url).engine
        found = asyncio.run(engine.afingerprint())
        asked = [call.path for call in server.calls]
    assert path in asked
    assert found.version is not None
    assert (found.model_digest is not None) == (backend == "ollama_api")


def test_the_embedded_engine_knows_its_file(embedded: EngineConfig) -> None:
    """Build and hash of the weights are known for a server in this process."""
    found = embedded.engine.fingerprint()
    assert found.version is not None
    assert found.version.startswith("b")
    assert found.model_digest is not None
    assert len(found.model_digest) == len("sha256:") + 64
