"""Checks of resp.tool_choice: which functions a response calls."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import answered_response, need_text, output_text
from pytest_llmengine.contract.facts import (
    ALLOWED_TOOLS_DROPPED,
    NAMED_CHOICE_DROPPED,
    NONE_CHOICE_DROPPED,
    PARALLEL_DROPPED,
    REQUIRED_CHOICE_DROPPED,
)
from pytest_llmengine.contract.outcomes import Ignored, Unmeasured, quote
from pytest_llmengine.contract.registry import EXTENDED, REQUIRED, check
from pytest_llmengine.contract.response_assertions import (
    MODES,
    TIME_TOOL,
    WEATHER_TOOL,
    answer,
    function_calls,
    mode,
)
from pytest_llmengine.contract.samples import ASK_BOTH, ASK_WEATHER, CALL_TOKENS, JSON

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
# The form of tool_choice, its schema, and the cause if it has no effect.
_CHOICES: dict[str, tuple[JSON, str, str]] = {
    "named": (
        {"type": "function", "name": "get_time"},
        "ToolChoiceFunction",
        NAMED_CHOICE_DROPPED,
    ),
    "allowed": (_ALLOWED, "ToolChoiceAllowed", ALLOWED_TOOLS_DROPPED),
}


def _call(target: Target, prompt: str, choice: object, *, stream: bool, **params: Any) -> list[str]:
    tools = [WEATHER_TOOL, TIME_TOOL]
    body = answer(
        target,
        prompt,
        stream=stream,
        tools=tools,
        tool_choice=choice,
        max_output_tokens=CALL_TOKENS,
        **params,
    )
    if not (called := function_calls(answered_response(body))):
        need_text(output_text(body))
    return called


def _choice_is_kept(name: str, target: Target) -> None:
    choice, _, fact = _CHOICES[name]
    for stream in MODES:
        called = _call(target, ASK_WEATHER, choice, stream=stream)
        if set(called) != {"get_time"}:
            reason = f"{mode(stream)}: tool_choice {name} gives calls of {quote(called)}"
            raise Ignored(reason, fact=fact)


for _name, (_, _schema, _) in _CHOICES.items():
    rule(
        f"resp.tool_choice.{_name}",
        title=f"tool_choice in the form {_name!r} decides what is called, whole and streamed.",
        breaks="An agent that forces a tool gets prose or a call of another tool.",
        source=f"openai-openapi: {_schema}",
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
    if not _call(target, "Say hello.", "required", stream=True):
        raise Ignored("required was accepted, and there is no call", fact=REQUIRED_CHOICE_DROPPED)


@rule(
    "resp.tool_choice.none",
    source="openai-openapi: ToolChoiceOptions",
    needs=NEEDS,
    breaks="An agent that wants a final answer gets one more call.",
)
def choice_none(target: Target) -> None:
    """tool_choice none prevents a call that the model makes otherwise, whole and streamed."""
    for stream in MODES:
        if _call(target, ASK_WEATHER, "none", stream=stream):
            raise Ignored(f"{mode(stream)}: none gives a call", fact=NONE_CHOICE_DROPPED)
    if not _call(target, ASK_WEATHER, "auto", stream=False):
        raise Unmeasured("this model cannot show it: it makes no call with auto either")


@rule(
    "resp.effect.parallel_tool_calls",
    source=f"{SPEC}.parallel_tool_calls",
    needs=NEEDS,
    breaks="An agent that handles one call at a time drops the others.",
)
def parallel_tool_calls(target: Target) -> None:
    """parallel_tool_calls false allows one call where the model makes two, whole and streamed."""
    many = _call(target, ASK_BOTH, "required", stream=False)
    for stream in MODES:
        one = _call(target, ASK_BOTH, "required", stream=stream, parallel_tool_calls=False)
        if len(one) > 1:
            reason = f"{mode(stream)}: there are {len(one)} calls"
            raise Ignored(reason, fact=PARALLEL_DROPPED)
    if len(many) < 2:
        raise Unmeasured("this model cannot show it: it makes fewer than two calls")
