"""Tool calls of a real vLLM server, which must have a tool parser."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import pytest

from llmengine import SamplingParams

if TYPE_CHECKING:
    from llmengine import Engine, LLMOutput

PROMPT = "What is the weather in Paris in celsius?"
NAMED = {"type": "function", "function": {"name": "get_weather"}}
WHOLE = SamplingParams(temperature=0, max_tokens=200)
CUT = SamplingParams(temperature=0, max_tokens=4)


def get_weather(city: str, unit: Literal["c", "f"]) -> str:
    """Get the weather in a city."""
    return f"{city} {unit}"


def _asked(engine: Engine, sampling: SamplingParams, choice: Any) -> LLMOutput:
    (result,) = engine.results(PROMPT, sampling, tools=[get_weather], tool_choice=choice)
    if result.error is not None and "tool" in str(result.error) and "parser" in str(result.error):
        pytest.skip(
            "this server has no tool parser; start it with --enable-auto-tool-choice "
            "--tool-call-parser hermes"
        )
    return result.unwrap()


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_arguments_fit_the_function(live: Engine, choice: Any) -> None:
    """A required tool is sent as strict, so its arguments are constrained."""
    output = _asked(live, WHOLE, choice)
    assert output.outputs[0].finish_reason == "tool_calls"
    arguments = json.loads(output.tool_calls[0].arguments)
    assert arguments.keys() == {"city", "unit"}
    assert arguments["unit"] in {"c", "f"}


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_streamed_calls_are_the_same(live: Engine, choice: Any) -> None:
    """The fragments of a streamed call join to the call of the whole answer."""
    output = _asked(live, WHOLE, choice)
    deltas = list(live.stream(PROMPT, WHOLE, tools=[get_weather], tool_choice=choice))
    arguments = "".join(c.arguments for d in deltas for c in d.tool_calls if c.index == 0)
    assert json.loads(arguments) == json.loads(output.tool_calls[0].arguments)
    assert [d.finish_reason for d in deltas if d.finish_reason] == ["tool_calls"]


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_call_that_was_cut_is_seen_to_be(live: Engine, choice: Any) -> None:
    """The server sends the rest of it as text: it is not a call, and the finish reason says why."""
    output = _asked(live, CUT, choice)
    assert output.tool_calls == ()
    assert output.outputs[0].finish_reason == "length"
    assert output.outputs[0].text
    deltas = list(live.stream(PROMPT, CUT, tools=[get_weather], tool_choice=choice))
    assert [d.finish_reason for d in deltas if d.finish_reason] == ["length"]
