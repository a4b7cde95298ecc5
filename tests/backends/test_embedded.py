"""The embedded backend: a real model behind a real server, through the same interface."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, Field

from llmengine import ConfigError, Engine, EngineConfig, SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=12)


@pytest.fixture(scope="module")
def engine(embedded: EngineConfig) -> Engine:
    """An engine of the embedded backend."""
    return embedded.engine


def test_real_model_answers(engine: Engine) -> None:
    """Texts, finish reasons and usage come from a model."""
    (output,) = engine.generate("Say hello.", GREEDY)

    assert output.outputs[0].text.strip()
    assert output.outputs[0].finish_reason in {"stop", "length"}
    assert output.usage.completion_tokens <= 12
    assert output.model == "smollm2-135m"


def test_stream_joins_to_the_whole_answer(engine: Engine) -> None:
    """At temperature 0 the stream is the same text."""
    whole = engine.generate("Name a colour.", GREEDY)[0].outputs[0].text

    assert "".join(d.text for d in engine.stream("Name a colour.", GREEDY)) == whole


class Weather(BaseModel):
    """Short enough for a small model."""

    city: str = Field(max_length=12)
    degrees: int = Field(ge=0, le=40)


def test_schema_is_enforced(engine: Engine) -> None:
    """A model of 135M parameters answers in the schema because the server enforces it."""
    sampling = SamplingParams(temperature=0, max_tokens=60)

    (output,) = engine.generate("The weather in Lyon.", sampling, output_model=Weather)

    assert isinstance(output.parsed, Weather)


def test_model_that_is_not_there_is_one_line() -> None:
    """The error names the path that does not exist."""
    engine = EngineConfig(backend="embedded", model="/nowhere/model.gguf").engine

    with pytest.raises(ConfigError) as caught:
        engine.generate("hi")
    assert "/nowhere/model.gguf" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_option_is_named() -> None:
    """An unknown server option is a clear error."""
    config = EngineConfig(name="e", backend="embedded", model="smollm2-135m", options={"ctx": 1})

    with pytest.raises(ConfigError, match=r"engine 'e': options: .*'ctx'.*n_ctx"):
        config.engine.generate("hi")
