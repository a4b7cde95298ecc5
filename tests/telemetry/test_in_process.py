"""Traces of an engine that has no server."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from llmengine import EngineConfig
from llmengine.vllm_local import loading

STAND_IN = Path(__file__).parents[1] / "vllm_local" / "stand_in"


@pytest.mark.skipif(find_spec("vllm") is not None, reason="a stand-in for vLLM is used")
def test_a_span_names_no_address(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says who answered and what it took, and invents no server."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    monkeypatch.setattr(loading, "_loaded_by", None)
    with EngineConfig(backend="vllm_local", model="counting").engine as engine:
        engine.generate("x", {"max_tokens": 2})

    (span,) = told.spans
    assert span.attributes["gen_ai.provider.name"] == "vllm"
    assert span.attributes["gen_ai.usage.output_tokens"] == 2
    assert not [name for name in span.attributes if name.startswith("server.")]
