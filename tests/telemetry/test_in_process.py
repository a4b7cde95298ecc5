"""Traces of an engine that has no server."""

from __future__ import annotations

from typing import Any

import pytest

from llmengine import EngineConfig


@pytest.mark.usefixtures("stand_in")
def test_a_span_names_no_address(told: Any) -> None:
    """It says who answered and what it took, and invents no server."""
    with EngineConfig(backend="vllm_local", model="counting").engine as engine:
        engine.generate("x", {"max_tokens": 2})

    (span,) = told.spans
    assert span.attributes["gen_ai.provider.name"] == "vllm"
    assert span.attributes["gen_ai.usage.output_tokens"] == 2
    assert not [name for name in span.attributes if name.startswith("server.")]
