"""Usage, cost and traces of a real model behind a real server."""

from __future__ import annotations

from typing import Any

import pytest

from llmengine import Price, SamplingParams
from llmengine.telemetry import BatchSummary

GREEDY = SamplingParams(temperature=0, max_tokens=6)


@pytest.fixture
def engine(embedded: Any) -> Any:
    """An embedded engine with a price per hour."""
    return embedded.model_copy(update={"price": Price(gpu_hour=3600)}).engine


def test_batch_and_stream(engine: Any, exported: Any) -> None:
    """A batch and a stream of a real server are counted alike, priced by time and traced."""
    batch = BatchSummary.of(engine.results(["Say hello.", "Name a colour."], GREEDY))
    *_, last = engine.stream("Say hello.", GREEDY)

    first, _, streamed = (span.attributes for span in exported.spans)
    assert batch.answered == batch.attempts == 2
    assert batch.usage.completion_tokens == 12
    assert batch.cost is not None
    assert batch.cost > 0
    assert last.usage.prompt_tokens == streamed["gen_ai.usage.input_tokens"] > 0
    assert streamed["gen_ai.response.time_to_first_chunk"] > 0
    assert first["gen_ai.provider.name"] == "llama.cpp"
