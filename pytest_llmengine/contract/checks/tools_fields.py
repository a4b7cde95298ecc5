"""Checks of tools: the fields of a tool reach the model, and custom tools are called."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import answered, content, need_text, pick, tool_calls
from pytest_llmengine.contract.facts import CUSTOM_DROPPED, TOOLS_DROPPED, either
from pytest_llmengine.contract.outcomes import (
    Refused,
    Unmeasured,
    expect,
    expect_effect,
    fail,
    quote,
)
from pytest_llmengine.contract.registry import EXTENDED, OPTIONAL, REQUIRED, check
from pytest_llmengine.contract.samples import (
    ASK_WEATHER,
    CALL_TOKENS,
    JSON,
    PING,
    WEATHER,
    function,
)
from pytest_llmengine.contract.tool_answer import ask, ask_for_call

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="tools.fields", tier=EXTENDED, since="2026-11-27")

NEEDS = {Capability.TOOLS}
STREAMED = {*NEEDS, Capability.STREAMING}


# ---- fields of a tool


class ToolField(NamedTuple):
    """A field of a tool, and two tools that differ only in it."""

    name: str
    what: str
    tools: tuple[JSON, JSON]


_LONG = "The weather of a city, with wind, clouds and the hours of sun, as measured at noon. " * 3
_CITY: JSON = {"type": "string", "enum": ["Paris"]}
FIELDS = (
    ToolField(
        "description",
        "The description of a tool",
        (WEATHER, function("get_weather", _LONG, {"city": _CITY})),
    ),
    ToolField(
        "property_description",
        "The description of a parameter",
        (
            WEATHER,
            function(
                "get_weather", "The weather of a city.", {"city": _CITY | {"description": _LONG}}
            ),
        ),
    ),
    ToolField(
        "parameters",
        "The parameters of a tool",
        (
            WEATHER,
            function(
                "get_weather",
                "The weather of a city.",
                {"town": _CITY, "region": {"type": "string", "enum": ["North"]}},
            ),
        ),
    ),
)


def _field(target: Target, field: ToolField, *, stream: bool) -> None:
    """Expect that the model sees the difference between the two tools."""
    one, other = (ask(target, ASK_WEATHER, tool, stream=stream) for tool in field.tools)
    if one.meaning != other.meaning:
        return
    if one.prompt_tokens is None or other.prompt_tokens is None:
        raise Unmeasured("the answers are equal, and there is no usage to tell the prompts apart")
    expect_effect(
        one.prompt_tokens != other.prompt_tokens,
        f"two tools that differ in {field.name} gave the same answer and prompt tokens: "
        f"{one.prompt_tokens}",
        fact=either(f"the {field.name} of a tool is dropped", TOOLS_DROPPED),
    )


for _spec in FIELDS:
    for _stream in (False, True):
        rule(
            f"tools.fields.{_spec.name}{'_stream' if _stream else ''}",
            level=REQUIRED,
            source=f"openai-openapi: FunctionObject.{_spec.name.rpartition('_')[2]}",
            needs=STREAMED if _stream else NEEDS,
            title=f"{_spec.what} reaches the model{' in a stream' if _stream else ''}.",
            breaks="The model does not learn what the tool does and takes another one.",
        )(partial(_field, field=_spec, stream=_stream))


_PING = "Ping the server. Call the tool."


@rule(
    "tools.fields.parameters_omitted",
    level=REQUIRED,
    source="openai-openapi: FunctionObject.parameters",
    needs=NEEDS,
)
def parameters_omitted(target: Target) -> None:
    """A function without the field parameters is accepted, and takes no arguments.

    An SDK leaves the field out for a function without arguments, and gets a 400 or 500.
    """
    described = {"name": "ping", "description": PING["function"]["description"]}
    bare = {"type": "function", "function": described}
    ask_for_call(target, _PING, PING)
    try:
        arguments = ask_for_call(target, _PING, bare).arguments
    except Refused as refusal:  # the field may be left out, and the control has it
        fail(f"a function without parameters is refused: {refusal}", fact=refusal.fact)
    expect(isinstance(arguments, dict), f"the arguments are {quote(arguments)} and not an object")


# ---- custom tools

PLAIN_INPUT: JSON = {"type": "custom", "custom": {"name": "note", "description": "Saves a text."}}
CODE: JSON = {
    "type": "grammar",
    "grammar": {"syntax": "regex", "definition": "[0-9]{3}-[0-9]{2}"},
}


def _custom(target: Target, given: JSON, pattern: str) -> None:
    """Expect a call of a custom tool whose input is a text that matches the pattern."""
    tool = {"type": "custom", "custom": PLAIN_INPUT["custom"] | given}
    named_custom = {"type": "custom", "custom": {"name": "note"}}
    params = {"tools": [tool], "tool_choice": named_custom, "max_tokens": CALL_TOKENS}
    body = answered(target.chat("Save the note 'blue'.", **params).success_or_refused())
    calls = tool_calls(body)
    said = f"a custom tool was named and accepted, and a text came: {quote(content(body))}"
    expect_effect(calls or not need_text(content(body)), said, fact=CUSTOM_DROPPED)
    expect(pick(calls[0], str, "type") == "custom", f"the type is {calls[0]['type']!r}")
    expect(pick(calls[0], str, "custom", "name") == "note", f"the call is {quote(calls[0])}")
    text = pick(calls[0], str, "custom", "input")
    expect_effect(re.fullmatch(pattern, text, re.DOTALL), f"the input is {quote(text)}")


for _id, _given, _pattern, _title in (
    ("tools.custom.text", {}, ".+", "A custom tool is called with a text."),
    (
        "tools.custom.grammar",
        {"format": CODE},
        "[0-9]{3}-[0-9]{2}",
        "The input of a custom tool with a regular expression matches it.",
    ),
):
    rule(
        _id,
        level=OPTIONAL,
        source="openai-openapi: CustomToolChatCompletions",
        needs=NEEDS,
        title=_title,
        breaks="An agent that edits files by a custom tool gets no call, or a text it cannot read.",
    )(partial(_custom, given=_given, pattern=_pattern))
