"""Engines on vLLM itself if it is installed, and on its stand-in otherwise."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import EngineConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmengine import Engine

# One process, one thread, little memory: see docs/vllm_local.md.
_SMALL = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
_OPTIONS = {
    "dtype": "float32",  # the one in which a text does not depend on the batch
    "max_model_len": 2048,
    "max_num_seqs": 16,
    "enforce_eager": True,
    "kv_cache_memory_bytes": 128 * 2**20,
    # A model this small fills a schema with blanks if it may.
    "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
}


@pytest.fixture
def make_engine(stand_in: Any) -> Iterator[Callable[..., Engine]]:
    """Makes engines on the stand-in and closes them."""
    made: list[Engine] = []

    def make(**fields: Any) -> Engine:
        given = {"backend": "vllm_local", "model": "counting", **fields}
        made.append(EngineConfig.model_validate(given).engine)
        return made[-1]

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def engine(make_engine: Callable[..., Engine]) -> Engine:
    """An engine on the stand-in."""
    return make_engine()


@pytest.fixture(scope="session")
def real_options() -> dict[str, Any]:
    """Arguments of ``vllm.LLM`` with which a small CPU runs a small model."""
    return _OPTIONS


@pytest.fixture(scope="session")
def real_model() -> str:
    """A model's folder for vLLM itself."""
    if find_spec("vllm") is None:
        pytest.skip("vLLM is not here: pip install vllm, see docs/vllm_local.md")
    os.environ.update({k: v for k, v in _SMALL.items() if k not in os.environ})
    model = os.environ.get("LLMENGINE_VLLM_MODEL")
    if not model:
        pytest.skip("no model for vLLM: set LLMENGINE_VLLM_MODEL, see docs/vllm_local.md")
    return model


@pytest.fixture(scope="session")
def real(real_model: str, real_options: dict[str, Any]) -> Iterator[Engine]:
    """An engine on vLLM itself, shared by all tests."""
    config = EngineConfig(backend="vllm_local", model=real_model, options=real_options)
    with config.engine as engine:
        yield engine
