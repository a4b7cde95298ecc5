"""Fixtures that make an engine for a raw server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine import EngineConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import Engine


@pytest.fixture
def engine_for(raw_server: Callable[[Any], Any]) -> Callable[..., tuple[Engine, Any]]:
    """Makes an engine and the raw server that it talks to. Retries wait as in production."""

    def make(handler: Any, **config: Any) -> tuple[Engine, Any]:
        server = raw_server(handler)
        fields = {"backend": "openai_compatible", "model": "m", "endpoint": server.url} | config
        return EngineConfig(**fields).engine, server

    return make
