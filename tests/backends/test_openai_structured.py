"""Structured output and tools of the openai backend, by both of its APIs."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel

from llmengine import (
    InvalidRequestError,
    RefusedError,
    SamplingParams,
    StructuredOutputError,
    TruncatedError,
)
from llmengine.mock import Behaviour, MockServer, Script


class Step(BaseModel):
    """One step of a plan."""

    action: Literal["buy", "cook"]
    minutes: int | None = None


class Plan(BaseModel):
    """A nested model."""

    title: str
    steps: list[Step]


PLAN = '{"title": "Soup", "steps": [{"action": "cook", "minutes": null}]}'

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def test_output_model_is_asked_strictly_and_parsed(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """A nested model is sent in OpenAI's strict dialect and comes back as an instance."""
    mock.play(Script(replies=[PLAN]))

    (output,) = openai_engine(mock.base_url, api).generate("Plan", output_model=Plan)

    assert output.parsed == Plan(title="Soup", steps=[Step(action="cook")])
    assert output.schema_strategy == "json_schema"
    body = mock.calls[0].json
    wanted = (
        body["text"]["format"] if api == "responses" else body["response_format"]["json_schema"]
    )
    assert (wanted["name"], wanted["strict"]) == ("Plan", True)
    step = wanted["schema"]["$defs"]["Step"]
    assert step["required"] == ["action", "minutes"]
    assert step["additionalProperties"] is False
    assert "default" not in json.dumps(wanted["schema"])


def test_streamed_answer_is_validated_too(mock: MockServer, openai_engine: Any, api: str) -> None:
    """After the text comes its parsed value."""
    mock.play(Script(replies=[PLAN]))

    deltas = list(openai_engine(mock.base_url, api).stream("Plan", output_model=Plan))

    assert "".join(delta.text for delta in deltas) == PLAN
    assert deltas[-1].parsed.title == "Soup"


def test_schema_that_openai_does_not_support_is_refused(
    mock: MockServer, openai_engine: Any
) -> None:
    """The error names the keyword and its path, and nothing is sent."""

    class Loose(BaseModel):
        extra: dict[str, int]

    (result,) = openai_engine(mock.base_url).results("x", output_model=Loose)

    assert isinstance(result.error, InvalidRequestError)
    assert "Loose.extra" in str(result.error)
    assert "additionalProperties" in str(result.error)
    assert (result.attempts, mock.calls) == (0, [])


def test_refusal_is_an_error_of_its_own(mock: MockServer, openai_engine: Any, api: str) -> None:
    """With an output model a refusal is never parsed=None, and no other strategy is tried."""
    mock.play(Script(replies=[{"refusal": "I will not."}] * 3))

    (result,) = openai_engine(mock.base_url, api).results("x", output_model=Plan)

    assert type(result.error) is RefusedError
    assert "I will not." in str(result.error)
    assert result.error.partial.usage.prompt_tokens > 0
    assert len(mock.calls) == result.attempts == 1


def test_refusal_of_a_plain_question_shows_in_the_reason(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """Without an output model it is text with such a finish_reason, streamed too."""
    mock.play(Script(replies=[{"refusal": "I will not."}] * 2))
    engine = openai_engine(mock.base_url, api)

    (output,) = engine.generate("x")
    deltas = list(engine.stream("x"))

    assert output.outputs[0].text == "".join(d.text for d in deltas) == "I will not."
    reasons = [d.finish_reason for d in deltas if d.finish_reason]
    assert reasons == [output.outputs[0].finish_reason] == ["refusal"]


def test_token_limit_shows_and_cuts_no_model_in_two(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """An incomplete response is "length"; with an output model it is a TruncatedError."""
    engine = openai_engine(mock.base_url, api)
    limit = SamplingParams(max_tokens=16)  # the least that the responses API takes
    long_plan = PLAN.replace("Soup", "Soup of the " + "long " * 16 + "day")
    mock.play(Script(replies=["one two three four five " * 4, long_plan]))

    (plain,) = engine.generate("x", limit)
    (structured,) = engine.results("x", limit, output_model=Plan)

    assert plain.outputs[0].finish_reason == "length"
    assert type(structured.error) is TruncatedError
    assert long_plan.startswith(structured.error.partial.outputs[0].text)
    assert structured.usage.completion_tokens == 16


def test_answer_that_does_not_fit_falls_back_and_counts(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """JSON mode is tried next, and the tokens of both attempts count."""
    mock.play(Script(replies=["no JSON at all", PLAN]))

    (result,) = openai_engine(mock.base_url, api).results("Plan", output_model=Plan)

    assert result.output.parsed.title == "Soup"
    assert result.output.schema_strategy == "json_object"
    assert result.attempts == len(mock.calls) == 2
    assert result.usage.total_tokens > result.output.usage.total_tokens
    body = mock.calls[1].json
    wanted = body["text"]["format"] if api == "responses" else body["response_format"]
    assert wanted == {"type": "json_object"}


def test_answer_that_never_fits_is_never_returned(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """After the last strategy the error has all that was tried."""
    mock.play(Script(replies=["prose"] * 5))

    (result,) = openai_engine(mock.base_url, api).results("Plan", output_model=Plan)

    assert type(result.error) is StructuredOutputError
    assert result.error.partial.outputs[0].text == "prose"


def test_schemas_are_trusted_at_openai_and_probed_elsewhere(openai_engine: Any, api: str) -> None:
    """One probe finds a gateway that takes a schema and ignores it."""

    def forget_the_schema(body: dict[str, Any], _: Any) -> dict[str, Any]:
        body.pop("text", None)
        if body.get("response_format", {}).get("type") == "json_schema":
            del body["response_format"]
        return body

    behaviour = Behaviour(request=forget_the_schema)
    script = Script(replies=["prose", f"Here it is: {PLAN}"])
    with MockServer(model="gpt-test", behaviour=behaviour, script=script) as server:
        engine = openai_engine(server.base_url, api, structured="auto")
        (result,) = engine.results("Plan", output_model=Plan)

    assert result.output.schema_strategy == "json_object"
    assert result.output.parsed.title == "Soup"
    assert (result.attempts, len(server.calls)) == (1, 2)
    assert openai_engine(None, api).backend.trusts_schema
    assert not engine.backend.trusts_schema


def test_tools_are_asked_called_and_answered(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """A call comes back as ToolCall, and is sent in the conversation with its result."""
    engine = openai_engine(mock.base_url, api)
    choice = {"type": "function", "function": {"name": "weather"}}

    (output,) = engine.generate("Weather in Kiel?", tools=[WEATHER], tool_choice=choice)
    (call,) = output.tool_calls
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather in Kiel?"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
            ],
        },
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]
    (after,) = engine.generate([conversation], tools=[WEATHER])

    assert call.name == "weather"
    assert set(json.loads(call.arguments)) == {"city"}
    assert after.outputs[0].text or after.tool_calls
    if api == "responses":
        types = [item.get("type", "message") for item in mock.calls[1].json["input"]]
        assert types == ["message", "message", "function_call", "function_call_output"]
        assert mock.calls[0].json["tools"][0]["strict"] is False


def test_streamed_tool_calls_join_to_the_whole_ones(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """Fragments of one index join; the finish reason is that of tool calls."""
    function = {"name": "weather", "arguments": '{"city": "Kiel"}'}
    mock.play(Script(replies=[{"tool_calls": [{"function": function}, {"function": function}]}]))

    deltas = list(openai_engine(mock.base_url, api).stream("x", tools=[WEATHER]))

    fragments = [fragment for delta in deltas for fragment in delta.tool_calls]
    for index in (0, 1):
        mine = [f for f in fragments if f.index == index]
        assert mine[0].name == "weather"
        assert mine[0].id
        assert "".join(f.arguments for f in mine) == function["arguments"]
    assert [d.finish_reason for d in deltas if d.finish_reason] == ["tool_calls"]


def test_tools_with_an_output_model_are_sent_by_either_api(
    mock: MockServer, openai_engine: Any, api: str
) -> None:
    """The SDK's ``parse`` takes only strict tools, so others go by ``create``."""
    mock.play(Script(replies=[PLAN]))

    (output,) = openai_engine(mock.base_url, api).generate(
        "Plan", output_model=Plan, tools=[WEATHER]
    )

    assert output.parsed.title == "Soup"
    assert mock.calls[0].json["tools"]
