"""Checks of tools.choice: the server obeys tool_choice, whole and streamed.

A prompt that asks for one tool names another one in tool_choice, and `auto` is asked as a control:
what a server does in any case shows nothing about tool_choice.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import choice, need_text, rejected
from pytest_llmengine.contract.facts import (
    ALLOWED_TOOLS_DROPPED,
    NAMED_CHOICE_DROPPED,
    NONE_CHOICE_DROPPED,
    REQUIRED_CHOICE_DROPPED,
    TOOLS_DROPPED,
    UNKNOWN_CHOICE,
    UNKNOWN_TOOL,
    either,
)
from pytest_llmengine.contract.outcomes import (
    Lenient,
    Unmeasured,
    expect,
    expect_effect,
    quote,
)
from pytest_llmengine.contract.registry import (
    CORE,
    EXPECTED,
    EXTENDED,
    OPTIONAL,
    REQUIRED,
    SMOKE,
    Level,
    Tier,
    check,
)
from pytest_llmengine.contract.samples import (
    ASK_BOTH,
    ASK_TIME,
    ASK_WEATHER,
    JSON,
    TIME,
    WEATHER,
    allowed,
    named,
    result,
    turn_with_calls,
)
from pytest_llmengine.contract.tool_answer import (
    ToolAnswer,
    ask,
    expect_one_call,
    judge_missing_call,
    seeded,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="tools.choice")

SPEC = "openai-openapi: ChatCompletionToolChoiceOption"
NEEDS = {Capability.TOOLS}
# Prompts that ask for one tool, each with the other tool, which tool_choice names.
TEMPTING = ((ASK_WEATHER, TIME), (ASK_TIME, WEATHER))
SMALL_TALK = ("Say hello.", "Thank you.")


def _none(target: Target, *, stream: bool) -> None:
    none = ask(target, ASK_WEATHER, WEATHER, tool_choice="none", stream=stream)
    _expect_text(none)
    auto = ask(target, ASK_WEATHER, WEATHER, tool_choice="auto", stream=stream)
    _expect_difference(none, auto)


def _none_after_calls(target: Target) -> None:
    turns = [
        *turn_with_calls(ASK_WEATHER, (WEATHER, '{"city": "Paris"}')),
        result(1, "sunny"),
        {"role": "user", "content": ASK_TIME},
    ]
    none = ask(target, turns, WEATHER, TIME, tool_choice="none")
    _expect_text(none)
    _expect_difference(none, ask(target, turns, WEATHER, TIME, tool_choice="auto"))


def _expect_difference(none: ToolAnswer, auto: ToolAnswer) -> None:
    """End as unmeasured if auto is answered as none is: without a call, and without the tools.

    A server that leaves the tools out of the prompt with none forbids them, whatever the model
    does with them. The prompt is shorter then.
    """
    short, long = none.prompt_tokens, auto.prompt_tokens
    left_out = short is not None and long is not None and short < long
    if not auto.calls and not left_out:
        raise Unmeasured("auto made no call either, so auto and none look the same")


def _required(target: Target, *, stream: bool) -> None:
    for prompt in SMALL_TALK:
        answer = ask(target, prompt, WEATHER, tool_choice="required", stream=stream)
        _expect_call(answer, "required", REQUIRED_CHOICE_DROPPED)
    controls = [ask(target, p, WEATHER, tool_choice="auto", stream=stream) for p in SMALL_TALK]
    if all(control.calls for control in controls):
        raise Unmeasured("auto calls the tool for these prompts too, so required shows nothing")


def _named(target: Target, *, stream: bool) -> None:
    for prompt, tool in TEMPTING:
        name = tool["function"]["name"]
        answer = ask(target, prompt, WEATHER, TIME, tool_choice=named(tool), stream=stream)
        _expect_call(answer, "a named function", NAMED_CHOICE_DROPPED)
        _expect_only(answer, name, "named", NAMED_CHOICE_DROPPED)


def _allowed(target: Target, *, stream: bool) -> None:
    for prompt, tool in TEMPTING:
        name = tool["function"]["name"]
        form = allowed("required", tool)
        answer = ask(target, prompt, WEATHER, TIME, tool_choice=form, stream=stream)
        _expect_call(answer, "allowed_tools with the mode required", ALLOWED_TOOLS_DROPPED)
        _expect_only(answer, name, "allowed", ALLOWED_TOOLS_DROPPED)
        form = allowed("auto", tool)
        answer = ask(target, prompt, WEATHER, TIME, tool_choice=form, stream=stream)
        _expect_only(answer, name, "allowed", ALLOWED_TOOLS_DROPPED)


def _parallel_disable(target: Target, *, stream: bool) -> None:
    def names(attempt: int, *, parallel: bool) -> list[str]:
        params = {**seeded(attempt), "parallel_tool_calls": parallel}
        return ask(target, ASK_BOTH, WEATHER, TIME, stream=stream, **params).names

    expect_one_call(names)


def _expect_text(answer: ToolAnswer) -> None:
    expect_effect(
        not answer.calls,
        f"none was accepted and {answer.names} was called",
        fact=NONE_CHOICE_DROPPED,
    )
    answer.expect_no_markup()
    need_text(answer.text)


def _expect_call(answer: ToolAnswer, what: str, fact: str) -> None:
    if answer.calls:
        return
    answer.expect_no_lost_call()
    judge_missing_call(what, answer.text, is_cut=answer.is_cut, fact=fact)


def _expect_only(answer: ToolAnswer, name: str, what: str, fact: str) -> None:
    expect_effect(
        set(answer.names) <= {name},
        f"only {quote(name)} was {what}, and {answer.names} was called",
        fact=fact,
    )


def _auto_default(target: Target) -> None:
    explicit = ask(target, ASK_WEATHER, WEATHER, tool_choice="auto")
    implicit = ask(target, ASK_WEATHER, WEATHER)
    expect(
        implicit.names == explicit.names,
        f"auto called {explicit.names}, left out called {implicit.names}",
    )
    if explicit.calls:
        return
    _expect_difference(ask(target, ASK_WEATHER, WEATHER, tool_choice="none"), explicit)
    expect(
        implicit.prompt_tokens == explicit.prompt_tokens,
        f"with auto the prompt has {explicit.prompt_tokens} tokens, and {implicit.prompt_tokens} "
        "if it is left out",
    )


CHOICE = "tools.choice"
_NONE = "An agent that forbids tools for its last answer gets a call and no answer."
_REQUIRED = "A client that reads the arguments of the first call finds none and crashes."
_NAMED = "A client that extracts data by one function gets the arguments of another."
_ONE = "A client that runs one call at a time drops the others, and the history is invalid."
_NAMED_SPEC = "openai-openapi: ChatCompletionNamedToolChoice"
_ALLOWED_SPEC = "openai-openapi: ChatCompletionAllowedToolsChoice"
_PARALLEL_SPEC = "openai-openapi: ParallelToolCalls"

# The function, the id, level, tier, source, the title, and what breaks; `{}` is "" or " in a
# stream", since each rule is checked for whole and for streamed answers.
BOTH_WAYS = (
    (
        _none,
        f"{CHOICE}.none",
        REQUIRED,
        CORE,
        f"{SPEC}: none",
        "tool_choice none gives text without a call or its markup{}, if the prompt asks for one.",
        _NONE,
    ),
    (
        _required,
        f"{CHOICE}.required",
        REQUIRED,
        SMOKE,
        f"{SPEC}: required",
        "tool_choice required gives at least one call{}, though the prompt asks for none.",
        _REQUIRED,
    ),
    (
        _named,
        f"{CHOICE}.named",
        REQUIRED,
        CORE,
        _NAMED_SPEC,
        "A named tool_choice gives a call of that function{}, though the prompt asks for another.",
        _NAMED,
    ),
    (
        _allowed,
        f"{CHOICE}.allowed_tools",
        OPTIONAL,
        EXTENDED,
        _ALLOWED_SPEC,
        "allowed_tools keeps the model from the other tools{}, though the prompt asks for one.",
        "An application that switches a tool off for one turn sees it called.",
    ),
    (
        _parallel_disable,
        "tools.parallel.disable",
        REQUIRED,
        EXTENDED,
        _PARALLEL_SPEC,
        "parallel_tool_calls false gives one call{} where several would come.",
        _ONE,
    ),
)


for _run, _id, _level, _tier, _source, _title, _breaks in BOTH_WAYS:
    rule(
        _id,
        level=_level,
        tier=_tier,
        source=_source,
        needs=NEEDS,
        title=_title.format(""),
        breaks=_breaks,
        since="2026-11-27" if _run is _allowed else "",
    )(partial(_run, stream=False))
    rule(
        f"{_id}_stream",
        level=_level,
        tier=EXTENDED,
        source=_source,
        needs={*NEEDS, Capability.STREAMING},
        title=_title.format(" in a stream"),
        breaks=_breaks,
        since="2026-11-27",
    )(partial(_run, stream=True))

rule(
    f"{CHOICE}.none_after_calls",
    level=REQUIRED,
    tier=EXTENDED,
    source=f"{SPEC}: none",
    needs=NEEDS,
    title="tool_choice none gives text also after a turn with calls.",
    breaks=_NONE,
    since="2026-11-27",
)(_none_after_calls)
rule(
    f"{CHOICE}.auto_default",
    level=REQUIRED,
    tier=CORE,
    needs=NEEDS,
    source=f"{SPEC}: auto is the default if tools are present",
    title="tool_choice left out means auto when there are tools.",
    breaks="A client that sets no tool_choice sees no calls, or only calls.",
)(_auto_default)


# ---- values that are rejected


class BadTools(NamedTuple):
    """Tools and a tool_choice that are refused, and the cause if they are answered.

    A server that answers ``lenient`` ones has dropped nothing.
    """

    id: str
    level: Level
    tier: Tier
    source: str
    title: str
    what: str
    params: JSON
    fact: str
    breaks: str = "A typo in tool_choice goes unnoticed, and the model decides as it likes."
    lenient: bool = False


def _rejects(target: Target, row: BadTools) -> None:
    """A 400 for bad values; refused if valid tools are refused, so a 400 is about the value."""
    target.chat(tools=[WEATHER], tool_choice="auto", max_tokens=1).success_or_refused()
    reply = target.chat(max_tokens=4, **row.params)
    if row.lenient and reply.ok:
        choice(reply.success())
        raise Lenient(f"{row.what} was answered", fact=row.fact)
    rejected(reply, row.what, fact=row.fact)


_OBSERVED = "OpenAI docs: guides/function-calling: observed, "
BAD = (
    BadTools(
        f"{CHOICE}.named_unknown",
        EXPECTED,
        EXTENDED,
        f"{_OBSERVED}a named function that is not in tools gets a 400",
        "A named tool_choice that is not among the tools is a 400.",
        "a tool_choice that names no tool of the request",
        {"tools": [WEATHER], "tool_choice": named(TIME)},
        UNKNOWN_TOOL,
    ),
    BadTools(
        f"{CHOICE}.invalid_value",
        REQUIRED,
        CORE,
        f"{SPEC}: enum",
        "A tool_choice that is not a known word is a 400.",
        "tool_choice 'sometimes'",
        {"tools": [WEATHER], "tool_choice": "sometimes"},
        UNKNOWN_CHOICE,
    ),
    BadTools(
        f"{CHOICE}.without_tools",
        EXPECTED,
        EXTENDED,
        f"{_OBSERVED}tool_choice is only allowed when tools are given",
        "A tool_choice without tools is a 400.",
        "tool_choice without tools",
        {"tool_choice": "required"},
        either("tool_choice without tools is accepted", REQUIRED_CHOICE_DROPPED),
    ),
    BadTools(
        "chat.tools.empty_array",
        EXPECTED,
        EXTENDED,
        f"{_OBSERVED}an empty list of tools gets a 400",
        "An empty list of tools is a 400.",
        "an empty list of tools",
        {"tools": []},
        either("an empty list of tools is accepted", TOOLS_DROPPED),
        "A program that has lost its tools works here, and is refused by OpenAI.",
        lenient=True,
    ),
)

for _bad in BAD:
    rule(
        _bad.id,
        level=_bad.level,
        tier=_bad.tier,
        source=_bad.source,
        needs=NEEDS,
        title=_bad.title,
        breaks=_bad.breaks,
    )(partial(_rejects, row=_bad))
