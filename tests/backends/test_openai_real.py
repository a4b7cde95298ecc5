"""The openai backend with the chat API, for a real model behind the server of llama.cpp."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field

from llmengine import SamplingParams

if TYPE_CHECKING:
    from llmengine import Engine, EngineConfig


class Person(BaseModel):
    """An answer."""

    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=120)


@pytest.fixture
def engine(embedded: EngineConfig, openai_engine: Any) -> Engine:
    """An engine of the backend for the embedded server."""
    made: Engine = openai_engine(embedded.engine.base_url, "chat", model=embedded.model)
    return made


def test_real_model_answers_in_the_shape_that_was_asked(engine: Engine) -> None:
    """The server enforces the strict schema that the SDK's ``parse`` sent."""
    (output,) = engine.generate(
        "Ann is thirty.", SamplingParams(temperature=0, max_tokens=60), output_model=Person
    )

    assert isinstance(output.parsed, Person)
    assert output.schema_strategy == "json_schema"


def test_real_stream_joins_to_the_whole_answer(engine: Engine) -> None:
    """At temperature 0 both are the same text."""
    greedy = SamplingParams(temperature=0, max_tokens=12)

    whole = engine.generate("Name a colour.", greedy)[0]
    deltas = list(engine.stream("Name a colour.", greedy))

    assert "".join(d.text for d in deltas) == whole.outputs[0].text
    assert deltas[-1].usage.total_tokens == whole.usage.total_tokens
