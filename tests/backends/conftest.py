"""Engines of the openai backend, without the OpenAI settings of this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import EngineConfig
from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmengine import Engine


@pytest.fixture
def no_openai_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the OPENAI variables of this machine."""
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)


@pytest.fixture(params=["responses", "chat"])
def api(request: pytest.FixtureRequest) -> str:
    """Each of the two APIs in turn."""
    return str(request.param)


@pytest.fixture
def openai_engine(no_openai_variables: None) -> Callable[..., Engine]:
    """Makes an engine of the openai backend for an address, and trusts its schemas."""
    pytest.importorskip("openai")

    def make(endpoint: str | None, api: str = "responses", **config: Any) -> Engine:
        fields = {"model": "gpt-test", "endpoint": endpoint, "options": {"api": api}}
        fields |= {"structured": "json_schema"} | config
        return EngineConfig(backend="openai", **fields).engine

    return make


@pytest.fixture
def mock() -> Iterator[MockServer]:
    """A mock server that knows one model."""
    with MockServer(model="gpt-test") as server:
        yield server
