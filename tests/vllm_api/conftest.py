"""A real vLLM server, if one is configured."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from llmengine import EngineConfig

if TYPE_CHECKING:
    from llmengine import Engine

_NO_SERVER = (
    "no vLLM server is configured; start one (vllm serve MODEL) and set "
    "VLLM_BASE_URL=http://HOST:PORT/v1 and VLLM_MODEL, with VLLM_API_KEY if it wants a key"
)


@pytest.fixture(scope="session")
def live_config() -> EngineConfig:
    """The configured server, with any model."""
    if not os.environ.get("VLLM_BASE_URL") or not os.environ.get("VLLM_MODEL"):
        pytest.skip(_NO_SERVER)
    return EngineConfig(backend="vllm_api", model=os.environ["VLLM_MODEL"], timeout=300)


@pytest.fixture
def live(live_config: EngineConfig) -> Engine:
    """An engine for the configured server."""
    return live_config.engine
