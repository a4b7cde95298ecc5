"""Structured output of a real vLLM, whose answers are recorded and replayed by default.

To ask a server instead: ``VLLM_BASE_URL=http://host:port pytest tests/structured -k vllm``.
docs/vllm_server.md says how the answers were recorded.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from llmengine import SamplingParams, TruncatedError

if TYPE_CHECKING:
    from llmengine import Engine

GREEDY = SamplingParams(temperature=0, max_tokens=120)
ASK = "Tell me about a person."
ASK_WEATHER = "What is the weather in Paris? Call the tool."


class Person(BaseModel):
    """Short enough for a small model."""

    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=99)
    mood: Literal["good", "bad"]


PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris"]}},
    "required": ["city"],
    "additionalProperties": False,
}
# Without "strict" vLLM enforces only the name of a call, and a small model adds arguments.
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "strict": True, "parameters": PARAMETERS},
}


def test_schema_is_enforced_and_the_answer_parsed(vllm_engine: Engine) -> None:
    """The probe finds that vLLM enforces schemas, and one request gives the value."""
    (result,) = vllm_engine.results(ASK, GREEDY, output_model=Person)

    assert isinstance(result.unwrap().parsed, Person)
    assert (result.unwrap().schema_strategy, result.attempts) == ("json_schema", 1)
    (verdict,) = vllm_engine.backend.enforcement.verdicts().values()
    assert (verdict.enforced, verdict.requests) == (True, 1)


def test_streamed_schema_answer_ends_in_its_value(vllm_engine: Engine) -> None:
    """The deltas join to the JSON of the last one's value."""
    *texts, last = vllm_engine.stream(ASK, GREEDY, output_model=Person)

    assert Person.model_validate_json("".join(d.text for d in texts)) == last.parsed


def test_cut_answer_is_refused_as_cut(vllm_engine: Engine) -> None:
    """JSON that the token limit cut is an error, and is sent once."""
    cut = SamplingParams(temperature=0, max_tokens=5)

    (result,) = vllm_engine.results(ASK, cut, output_model=Person)

    assert isinstance(result.error, TruncatedError)
    assert result.error.partial is not None
    assert result.error.partial.outputs[0].finish_reason == "length"
    assert result.attempts == 1


def test_choice_holds_the_answer_to_one_of_the_words(vllm_engine: Engine) -> None:
    """The guided decoding of vLLM is sent by its present name."""
    choice = SamplingParams(
        temperature=0, max_tokens=8, structured_outputs={"choice": ["vermilion", "ochre"]}
    )

    (output,) = vllm_engine.generate("Which colour has the sky?", choice)

    assert output.outputs[0].text in {"vermilion", "ochre"}


def test_tool_call_comes_whole(vllm_engine: Engine) -> None:
    """A required call has its name and arguments that fit, and no text beside it."""
    (output,) = vllm_engine.generate(ASK_WEATHER, GREEDY, tools=[WEATHER], tool_choice="required")

    (call,) = output.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Paris"})
    assert (output.outputs[0].text, output.outputs[0].finish_reason) == ("", "tool_calls")


def test_streamed_tool_call_joins_to_the_same(vllm_engine: Engine) -> None:
    """The fragments of a streamed call have one index and one name, and join to its arguments."""
    deltas = vllm_engine.stream(ASK_WEATHER, GREEDY, tools=[WEATHER], tool_choice="required")

    fragments = [fragment for delta in deltas for fragment in delta.tool_calls]
    assert {fragment.index for fragment in fragments} == {0}
    assert [fragment.name for fragment in fragments if fragment.name] == ["weather"]
    assert json.loads("".join(f.arguments for f in fragments)) == {"city": "Paris"}


def test_stream_joins_to_the_whole_answer(vllm_engine: Engine) -> None:
    """Greedy text is the same streamed and whole, with the same finish reason."""
    params = SamplingParams(temperature=0, max_tokens=24)

    deltas = list(vllm_engine.stream("Count from 1 to 300.", params))
    (whole,) = vllm_engine.generate("Count from 1 to 300.", params)

    assert len(deltas) > 2
    assert "".join(d.text for d in deltas) == whole.outputs[0].text
    assert [d.finish_reason for d in deltas if d.finish_reason] == ["length"]
    assert deltas[-1].usage == whole.usage
