"""Checks of tools.choice: the server obeys tool_choice and rejects invalid values."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import answered, called_names, content, rejected
from pytest_llmengine.contract.outcomes import Unmeasured, expect, expect_effect
from pytest_llmengine.contract.registry import (
    CORE,
    EXPECTED,
    EXTENDED,
    OPTIONAL,
    REQUIRED,
    SMOKE,
    check,
)
from pytest_llmengine.contract.samples import (
    ASK_BOTH,
    ASK_WEATHER,
    CALL_TOKENS,
    JSON,
    TIME,
    WEATHER,
    named,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="tools.choice")

SPEC = "openai-openapi: ChatCompletionToolChoiceOption"
NEEDS = {Capability.TOOLS}


@rule("tools.choice.none", level=REQUIRED, tier=CORE, source=f"{SPEC}: none", needs=NEEDS)
def choice_none(target: Target) -> None:
    """tool_choice none gives text and no call, though the prompt asks for one."""
    body = _ask(target, ASK_WEATHER, WEATHER, tool_choice="none")
    expect_effect(not called_names(body), f"none was accepted and {called_names(body)} was called")
    expect(content(body), "neither text nor a tool call")
    if not called_names(_ask(target, ASK_WEATHER, WEATHER, tool_choice="auto")):
        raise Unmeasured("auto made no call either, so auto and none look the same")


@rule(
    "tools.choice.auto_default",
    level=REQUIRED,
    tier=CORE,
    source=f"{SPEC}: auto is the default if tools are present",
    needs=NEEDS,
)
def auto_default(target: Target) -> None:
    """tool_choice left out means auto when there are tools."""
    explicit = called_names(_ask(target, ASK_WEATHER, WEATHER, tool_choice="auto"))
    if not explicit:
        raise Unmeasured("auto made no call, so auto and none look the same")
    implicit = called_names(_ask(target, ASK_WEATHER, WEATHER))
    expect(implicit == explicit, f"auto called {explicit}, left out called {implicit}")


@rule("tools.choice.required", level=REQUIRED, tier=SMOKE, source=f"{SPEC}: required", needs=NEEDS)
def choice_required(target: Target) -> None:
    """tool_choice required gives at least one call, though the prompt asks for none."""
    body = _ask(target, "Say hello.", WEATHER, tool_choice="required")
    expect_effect(called_names(body), f"required was accepted, and the answer is {_quoted(body)}")


@rule(
    "tools.choice.named",
    level=REQUIRED,
    tier=CORE,
    source="openai-openapi: ChatCompletionNamedToolChoice",
    needs=NEEDS,
)
def choice_named(target: Target) -> None:
    """A named tool_choice gives a call of that function, though the prompt asks for another."""
    body = _ask(target, ASK_WEATHER, WEATHER, TIME, tool_choice=named(TIME))
    names = called_names(body)
    expect_effect(names, f"get_time was named and accepted, and the answer is {_quoted(body)}")
    expect_effect(set(names) == {"get_time"}, f"get_time was named, and {names} was called")


@rule(
    "tools.choice.named_unknown",
    level=EXPECTED,
    tier=EXTENDED,
    source="OpenAI observed: a named function that is not in tools gets a 400",
    needs=NEEDS,
)
def named_unknown(target: Target) -> None:
    """A named tool_choice that is not among the tools is a 400."""
    _control(target)
    reply = target.chat(tools=[WEATHER], tool_choice=named(TIME), max_tokens=4)
    rejected(reply, "a tool_choice that names no tool of the request")


@rule(
    "tools.choice.invalid_value",
    level=REQUIRED,
    tier=CORE,
    source=f"{SPEC}: enum",
    needs=NEEDS,
)
def invalid_value(target: Target) -> None:
    """A tool_choice that is no known word is a 400."""
    _control(target)
    reply = target.chat(tools=[WEATHER], tool_choice="sometimes", max_tokens=4)
    rejected(reply, "tool_choice 'sometimes'")


@rule(
    "tools.choice.without_tools",
    level=EXPECTED,
    tier=EXTENDED,
    source="OpenAI observed: tool_choice is only allowed when tools are given",
    needs=NEEDS,
)
def without_tools(target: Target) -> None:
    """A tool_choice without tools is a 400."""
    _control(target)
    rejected(target.chat(tool_choice="required", max_tokens=4), "tool_choice without tools")


@rule(
    "chat.tools.empty_array",
    level=EXPECTED,
    tier=EXTENDED,
    source="OpenAI observed: an empty list of tools gets a 400",
    needs=NEEDS,
)
def empty_array(target: Target) -> None:
    """An empty list of tools is a 400."""
    _control(target)
    rejected(target.chat(tools=[], max_tokens=4), "an empty list of tools")


@rule(
    "tools.parallel.disable",
    level=OPTIONAL,
    tier=EXTENDED,
    source="openai-openapi: ParallelToolCalls",
    needs=NEEDS,
)
def parallel_disable(target: Target) -> None:
    """parallel_tool_calls false gives one call where several would come."""
    many = called_names(_ask(target, ASK_BOTH, WEATHER, TIME, parallel_tool_calls=True))
    if len(many) < 2:
        raise Unmeasured(f"the model made {len(many)} calls where two were asked for")
    one = called_names(_ask(target, ASK_BOTH, WEATHER, TIME, parallel_tool_calls=False))
    expect_effect(len(one) < 2, f"parallel_tool_calls false was accepted and {one} were called")


def _ask(target: Target, prompt: str, *tools: JSON, **params: Any) -> dict[str, Any]:
    reply = target.chat(prompt, tools=list(tools), max_tokens=CALL_TOKENS, **params)
    return answered(reply.success_or_refused())


def _control(target: Target) -> None:
    """End the check as refused if valid tools are refused, so a 400 is about the bad value."""
    target.chat(tools=[WEATHER], tool_choice="auto", max_tokens=1).success_or_refused()


def _quoted(body: dict[str, Any]) -> str:
    return f"text: {content(body)!r}"
