"""Traces of an engine that has no server."""

from __future__ import annotations

from typing import Any

import pytest

from llmengine import EngineConfig


@pytest.mark.usefixtures("stand_in")
def test_a_span_names_no_address(exported: Any) -> None:
    """It has the model and the usage, and no server."""
    with EngineConfig(backend="vllm_local", model="counting").engine as engine:
        engine.generate("x", {"max_tokens": 2})

    (span,) = exported.spans
    assert span.attributes["gen_ai.provider.name"] == "vllm"
    assert span.attributes["gen_ai.usage.output_tokens"] == 2
    assert not [name for name in span.attributes if name.startswith("server.")]
