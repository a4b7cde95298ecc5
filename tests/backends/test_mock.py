"""The mock backend: a real server in this process, deterministic, with faults on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from llmengine import EngineConfig, SamplingParams, StreamIncompleteError
from llmengine.mock import Fault, Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.backends.mock import Mock


@pytest.fixture
def engine() -> Iterator[Mock]:
    """A mock engine with its own server."""
    with EngineConfig(backend="mock", model="mock", max_concurrency=8).engine as engine:
        yield engine


def test_same_prompt_same_answer(engine: Mock) -> None:
    """The mock is deterministic, streamed or not."""
    first, second = engine.generate(["Tell me.", "Tell me."])
    streamed = "".join(delta.text for delta in engine.stream("Tell me."))

    assert first.outputs[0].text == second.outputs[0].text == streamed != ""


def test_token_limit_and_choices_are_kept(engine: Mock) -> None:
    """max_tokens and n are kept and counted."""
    (output,) = engine.generate("Tell me.", SamplingParams(n=3, max_tokens=4, temperature=1))

    assert [o.index for o in output.outputs] == [0, 1, 2]
    assert {o.finish_reason for o in output.outputs} == {"length"}
    assert output.usage.completion_tokens == 12


def test_script_decides_the_replies(engine: Mock) -> None:
    """Scripted replies come in order."""
    engine.server.play(Script(replies=["one", "two"]))

    assert [engine.generate("x")[0].outputs[0].text for _ in range(2)] == ["one", "two"]


def test_faults_are_survived_and_counted(engine: Mock) -> None:
    """The first calls fail, every prompt is answered, and all attempts are counted."""
    engine.server.play(Script(faults=[Fault(status=503)] * 8))

    results = engine.results([f"prompt {i}" for i in range(20)])

    assert all(result.ok for result in results)
    assert sum(result.attempts for result in results) == len(engine.server.calls) == 28


def test_cut_stream_is_incomplete(engine: Mock) -> None:
    """A stream that the server cuts is an error with the text so far."""
    engine.server.play(Script(faults=[Fault(cut_after=3)] * 9))

    with pytest.raises(Exception) as caught:  # noqa: PT011 - the kind is asserted below
        list(engine.stream("Tell me."))

    assert isinstance(caught.value, StreamIncompleteError) or "broke" in str(caught.value)
    assert caught.value.partial.outputs[0].text != ""


class Person(BaseModel):
    """The model of the structured test."""

    name: str
    age: int


def test_any_schema_has_an_instance(engine: Mock) -> None:
    """The answer to output_model is an instance of it."""
    (output,) = engine.generate("Who?", output_model=Person)

    assert isinstance(output.parsed, Person)


def test_closed_engine_starts_again(engine: Mock) -> None:
    """``close`` stops the server; the next call starts another."""
    before = engine.generate("x")[0].outputs[0].text
    engine.close()

    assert engine.generate("x")[0].outputs[0].text == before
