"""Checks of resp.tool_choice: which functions a response calls."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import answered_response, need_text, output_text
from pytest_llmengine.contract.facts import (
    ALLOWED_TOOLS_DROPPED,
    NAMED_CHOICE_DROPPED,
    NONE_CHOICE_DROPPED,
    REQUIRED_CHOICE_DROPPED,
)
from pytest_llmengine.contract.outcomes import Unmeasured, expect_effect, quote
from pytest_llmengine.contract.registry import EXTENDED, OPTIONAL, REQUIRED, Level, check
from pytest_llmengine.contract.response_assertions import (
    MODES,
    TIME_TOOL,
    WEATHER_TOOL,
    answer,
    expect_call,
    function_calls,
    is_cut,
    mode,
)
from pytest_llmengine.contract.samples import ASK_BOTH, ASK_WEATHER, CALL_TOKENS, JSON
from pytest_llmengine.contract.tool_answer import expect_no_markup, expect_one_call

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="responses.tools", tier=EXTENDED, since="2026-11-27", level=REQUIRED)
SPEC = "openai-openapi: CreateResponse"
NEEDS = {Capability.RESPONSES, Capability.TOOLS}

_ALLOWED: JSON = {
    "type": "allowed_tools",
    "mode": "required",
    "tools": [{"type": "function", "name": "get_time"}],
}


class ForcedChoice(NamedTuple):
    """A tool_choice that forces a call, its schema, and the cause if it has no effect."""

    value: JSON
    schema: str
    level: Level
    fact: str


_CHOICES = {
    "named": ForcedChoice(
        {"type": "function", "name": "get_time"},
        "ToolChoiceFunction",
        REQUIRED,
        NAMED_CHOICE_DROPPED,
    ),
    "allowed": ForcedChoice(_ALLOWED, "ToolChoiceAllowed", OPTIONAL, ALLOWED_TOOLS_DROPPED),
}


def _ask(target: Target, prompt: str, choice: object, *, stream: bool, **params: Any) -> JSON:
    given = {"tools": [WEATHER_TOOL, TIME_TOOL], "max_output_tokens": CALL_TOKENS, **params}
    return answered_response(answer(target, prompt, stream=stream, tool_choice=choice, **given))


def _choice_is_kept(name: str, target: Target) -> None:
    choice = _CHOICES[name]
    for stream in MODES:
        body = _ask(target, ASK_WEATHER, choice.value, stream=stream)
        expect_call(body, f"{mode(stream)}: tool_choice {name}", choice.fact)
        called = function_calls(body)
        reason = f"{mode(stream)}: tool_choice {name} gives calls of {quote(called)}"
        expect_effect(set(called) == {"get_time"}, reason, fact=choice.fact)


for _name, _choice in _CHOICES.items():
    rule(
        f"resp.tool_choice.{_name}",
        title=f"tool_choice in the form {_name!r} decides what is called, whole and streamed.",
        breaks="An agent that forces a tool gets prose or a call of another tool.",
        source=f"openai-openapi: {_choice.schema}",
        level=_choice.level,
        needs=NEEDS,
    )(partial(_choice_is_kept, _name))


@rule(
    "resp.tool_choice.stream",
    source="openai-openapi: ToolChoiceOptions",
    needs=NEEDS | {Capability.STREAMING},
    breaks="An agent that forces a call gets prose as soon as it streams.",
)
def choice_in_a_stream(target: Target) -> None:
    """tool_choice required gives a call in a stream too, though the prompt asks for none."""
    body = _ask(target, "Say hello.", "required", stream=True)
    expect_call(body, "required", REQUIRED_CHOICE_DROPPED)


@rule(
    "resp.tool_choice.none",
    source="openai-openapi: ToolChoiceOptions",
    needs=NEEDS,
    breaks="An agent that wants a final answer gets one more call.",
)
def choice_none(target: Target) -> None:
    """tool_choice none prevents a call that the model makes otherwise, whole and streamed."""
    for stream in MODES:
        body = _ask(target, ASK_WEATHER, "none", stream=stream)
        called = function_calls(body)
        reason = f"{mode(stream)}: none was accepted, and {quote(called)} is called"
        expect_effect(not called, reason, fact=NONE_CHOICE_DROPPED)
        expect_no_markup(need_text(output_text(body)), is_cut=is_cut(body))
    if not function_calls(_ask(target, ASK_WEATHER, "auto", stream=False)):
        raise Unmeasured("this model cannot show it: it makes no call with auto either")


@rule(
    "resp.effect.parallel_tool_calls",
    source=f"{SPEC}.parallel_tool_calls",
    needs=NEEDS,
    breaks="An agent that handles one call at a time drops the others.",
)
def parallel_tool_calls(target: Target) -> None:
    """parallel_tool_calls false allows one call where the model makes two, whole and streamed."""

    def names(attempt: int, *, parallel: bool) -> list[str]:
        """The calls of one answer, or the most calls of a whole and a streamed one."""
        choice = ("required", "auto")[attempt % 2]
        given = {} if parallel else {"parallel_tool_calls": False}
        chance = {"temperature": min(attempt // 2, 1)}  # the first two tries are the likeliest
        answers = [
            _ask(target, ASK_BOTH, choice, stream=stream, **given, **chance)
            for stream in MODES[: 1 if parallel else None]
        ]
        return max(map(function_calls, answers), key=len)

    expect_one_call(names)
