"""A mock server, and mappers for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine.integrations.ray_data import EngineMapper
from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def server() -> Iterator[MockServer]:
    """A mock server for one test."""
    with MockServer() as server:
        yield server


@pytest.fixture
def config(server: MockServer) -> dict[str, Any]:
    """The fields of an engine for the server, with short waits between attempts."""
    return {
        "name": "there",
        "backend": "openai_compatible",
        "model": "mock",
        "endpoint": server.root_url,
        "retry_wait": 0.001,
    }


@pytest.fixture
def mapper(config: dict[str, Any]) -> Callable[..., EngineMapper]:
    """Makes a mapper for the server."""

    def make(**settings: Any) -> EngineMapper:
        return EngineMapper(config, **settings)

    return make
