"""Tools and tool_choice in chat completions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

if TYPE_CHECKING:
    from conftest import Api

PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"type": "string", "enum": ["c", "f"]},
        "days": {"type": "array", "items": {"type": "integer", "minimum": 1}},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
TIME = {"type": "function", "function": {"name": "get_time", "description": "Clock of a place"}}
NAMED = {"type": "function", "function": {"name": "get_time"}}
ONE = "What is the weather in Paris?"
TWO = "What is the weather in Paris and in London?"


def _calls(choice: Any) -> list[tuple[str, Any]]:
    functions = [c["function"] for c in choice["message"].get("tool_calls", [])]
    return [(f["name"], json.loads(f["arguments"])) for f in functions]


def test_call_has_openai_shape(reference: Api) -> None:
    """A call has an id, a type and a function whose arguments are JSON text."""
    choice = reference.said(ONE, tools=[WEATHER])
    (call,) = choice["message"]["tool_calls"]

    assert choice["message"]["content"] is None
    assert call.keys() == {"id", "type", "function"}
    assert (call["type"], call["function"]["name"]) == ("function", "get_weather")
    jsonschema.validate(json.loads(call["function"]["arguments"]), PARAMETERS)


def test_arguments_come_from_the_prompt(reference: Api) -> None:
    """Names and quoted words of the prompt become strings of the arguments."""
    ((_, arguments),) = _calls(reference.said(ONE, tools=[WEATHER]))
    ((_, quoted),) = _calls(reference.said("Use get_weather for 'Zürich 🎉'", tools=[WEATHER]))

    assert arguments["city"] == "Paris"
    assert quoted["city"] == "Zürich 🎉"


def test_numbers_of_the_prompt_become_arguments(reference: Api) -> None:
    """Each number is used once, in order, if the schema allows it; a date is no number."""
    number, integer = {"type": "number"}, {"type": "integer", "minimum": 2}
    properties = {"celsius": number, "digits": integer, "city": {"type": "string"}, "left": integer}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    tool = {"type": "function", "function": {"name": "convert", "parameters": parameters}}
    prompt = "On 2026-11-27, convert -21.5 degrees of Paris with 3 digits."
    ((_, arguments),) = _calls(reference.said(prompt, tools=[tool]))

    assert arguments == {"celsius": -21.5, "digits": 3, "city": "Paris", "left": 2}


@pytest.mark.parametrize(
    ("prompt", "params", "names", "reason"),
    [
        (ONE, {}, ["get_weather"], "tool_calls"),
        (ONE, {"tool_choice": "auto"}, ["get_weather"], "tool_calls"),
        (ONE, {"tool_choice": "none"}, [], "stop"),
        ("Hello.", {}, [], "stop"),
        ("Hello.", {"tool_choice": "required"}, ["get_weather"], "tool_calls"),
        (ONE, {"tool_choice": NAMED}, ["get_time"], "stop"),
        (TWO, {}, ["get_weather", "get_weather"], "tool_calls"),
        (TWO, {"parallel_tool_calls": False}, ["get_weather"], "tool_calls"),
        ("weather and clock please", {}, ["get_weather", "get_time"], "tool_calls"),
    ],
)
def test_choice_decides_which_tools_are_called(
    reference: Api, prompt: str, params: dict[str, Any], names: list[str], reason: str
) -> None:
    """tool_choice and parallel_tool_calls are followed, with OpenAI's finish reasons."""
    choice = reference.said(prompt, tools=[WEATHER, TIME], **params)

    assert [name for name, _ in _calls(choice)] == names
    assert choice["finish_reason"] == reason


def test_streamed_fragments_join_to_the_call(reference: Api) -> None:
    """The first fragment has id, type and name; the arguments follow in pieces, by index."""
    whole = _calls(reference.said(TWO, tools=[WEATHER]))
    fragments = [
        f
        for c in reference.chunks(TWO, tools=[WEATHER])
        for f in c["choices"][0]["delta"].get("tool_calls", [])
    ]

    for index, (name, arguments) in enumerate(whole):
        first, *rest = [f for f in fragments if f["index"] == index]
        assert first["id"]
        assert (first["type"], first["function"]) == ("function", {"name": name, "arguments": ""})
        assert len(rest) > 3
        assert all(f.keys() == {"index", "function"} for f in rest)
        assert json.loads("".join(f["function"]["arguments"] for f in rest)) == arguments


def test_stream_ends_with_the_reason(reference: Api) -> None:
    """A streamed call ends with tool_calls, and a named one with stop."""
    last = reference.chunks(ONE, tools=[WEATHER])[-1]
    named = reference.chunks(ONE, tools=[TIME], tool_choice=NAMED)[-1]

    assert last["choices"][0]["finish_reason"] == "tool_calls"
    assert named["choices"][0]["finish_reason"] == "stop"


def test_result_is_answered_in_text(reference: Api) -> None:
    """The answer to a tool's result is text, and not another call."""
    call = reference.said(ONE, tools=[WEATHER])["message"]
    result = {
        "role": "tool",
        "tool_call_id": call["tool_calls"][0]["id"],
        "content": "sunny, 21 degrees",
    }
    turns = [{"role": "user", "content": ONE}, call, result]
    choice = reference.said(turns, tools=[WEATHER])

    assert "sunny, 21 degrees" in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"


def test_token_limit_cuts_the_arguments(reference: Api) -> None:
    """Arguments count as tokens, and the limit cuts them with the finish reason length."""
    choice = reference.said(ONE, tools=[WEATHER], max_tokens=6)
    (call,) = choice["message"]["tool_calls"]
    whole = json.dumps(_calls(reference.said(ONE, tools=[WEATHER]))[0][1], ensure_ascii=False)

    assert choice["finish_reason"] == "length"
    assert whole.startswith(call["function"]["arguments"])
    assert len(call["function"]["arguments"]) < len(whole)


def test_arguments_in_history_need_not_be_json(reference: Api) -> None:
    """A call of an earlier turn may have invalid arguments."""
    function = {"name": "f", "arguments": "{not json"}
    call = {"id": "a", "type": "function", "function": function}
    turns = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "y"},
    ]

    assert reference.chat(turns).status_code == 200


DICTATED = "Call get_weather with these arguments: "


@pytest.mark.parametrize(
    ("strict", "dictated", "kept"),
    [
        (False, '{"city": "Rome", "unit": "kelvin"}', True),
        (True, '{"city": "Rome", "unit": "kelvin"}', False),
        (True, '{"city": "Rome", "unit": "c"}', True),
        (True, '{"city": "Rome", "unit": "c"', False),
    ],
)
def test_a_prompt_dictates_the_arguments_that_the_tool_allows(
    reference: Api, strict: bool, dictated: str, kept: bool
) -> None:
    """A strict tool is called with other arguments if the dictated ones do not fit its schema."""
    tool = {"type": "function", "function": WEATHER["function"] | {"strict": strict}}
    choice = reference.said(DICTATED + dictated, tools=[tool])
    arguments = choice["message"]["tool_calls"][0]["function"]["arguments"]

    assert (arguments == dictated) is kept
    if strict:
        jsonschema.validate(json.loads(arguments), PARAMETERS)


def _allow(mode: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [NAMED]}}


@pytest.mark.parametrize(
    ("prompt", "mode", "names"),
    [(ONE, "required", ["get_time"]), (ONE, "auto", []), ("Which clock?", "auto", ["get_time"])],
)
def test_only_allowed_tools_are_called(
    reference: Api, prompt: str, mode: str, names: list[str]
) -> None:
    """The other tools of the request are never called."""
    choice = reference.said(prompt, tools=[WEATHER, TIME], tool_choice=_allow(mode))

    assert [name for name, _ in _calls(choice)] == names


RANGE = {"type": "grammar", "grammar": {"syntax": "regex", "definition": "[0-9]{3}"}}
NAMED_CUSTOM = {"type": "custom", "custom": {"name": "save"}}


@pytest.mark.parametrize(("given", "text"), [({}, "blue"), ({"format": RANGE}, "000")])
def test_a_custom_tool_is_called_with_a_text(
    reference: Api, given: dict[str, Any], text: str
) -> None:
    """The input is a word of the prompt, or a text that fits the tool's regular expression."""
    tool = {"type": "custom", "custom": {"name": "save", **given}}
    params = {"tools": [tool], "tool_choice": NAMED_CUSTOM}
    (call,) = reference.said("Save 'blue'.", **params)["message"]["tool_calls"]

    assert call == {
        "id": call["id"],
        "type": "custom",
        "custom": {"name": "save", "input": text},
    }
