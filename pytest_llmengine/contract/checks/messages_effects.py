"""Checks of messages and messages.stream: a parameter has its effect, whole and streamed."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import PROMPT, Stopping, need_text, pick, stopping_in
from pytest_llmengine.contract.facts import (
    LIMIT_NOT_KEPT,
    NAMED_CHOICE_DROPPED,
    REQUIRED_CHOICE_DROPPED,
)
from pytest_llmengine.contract.messages_api import (
    DOCS,
    SDK,
    TIME,
    TOOL_USE,
    WEATHER,
    ask,
    blocks,
    called,
    effect,
    finished,
    is_cut,
    rule,
    said,
    text,
    usage_of,
)
from pytest_llmengine.contract.outcomes import Ignored, Unmeasured, expect, expect_effect, quote
from pytest_llmengine.contract.registry import CORE, EXTENDED, REQUIRED, SMOKE, Tier
from pytest_llmengine.contract.samples import ASK_WEATHER, CALL_TOKENS, COLOUR, COLOUR_SCHEMA, JSON
from pytest_llmengine.contract.tool_answer import judge_missing_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.contract.target import Target


_LONG = "Count from one to fifty in words."
_INVENT = "Invent a name for a planet, and say who lives there."
_CAP = 24


def _max_tokens(target: Target, *, stream: bool) -> None:
    body = ask(target, _LONG, stream=stream, max_tokens=5)
    came = pick(usage_of(body), int, "output_tokens")
    words = len(said(body).split())
    tokens = f"max_tokens=5: {came} tokens came: {said(body)!r}"
    expect_effect(came <= 5, tokens, fact=LIMIT_NOT_KEPT)
    expect_effect(words <= 5, f"max_tokens=5, and the text is {said(body)!r}", fact=LIMIT_NOT_KEPT)


def _cut(target: Target, *, stream: bool) -> None:
    body = ask(target, _LONG, stream=stream, max_tokens=5)
    reason = pick(body, str, "stop_reason")
    if reason == "refusal":
        raise Unmeasured("this model cannot show it: it refuses to answer")
    came = pick(usage_of(body), int, "output_tokens")
    if reason == "end_turn" and came < 5:
        raise Unmeasured("this model cannot show it: its message is shorter than the limit")
    not_cut = f"max_tokens=5 did not cut: {came} tokens came: {said(body)!r}"
    expect_effect(reason == "max_tokens" or came <= 5, not_cut, fact=LIMIT_NOT_KEPT)
    expect(reason == "max_tokens", f"the limit cut the message, and the stop_reason is {reason!r}")


def _stopped(target: Target, *, stream: bool) -> tuple[Stopping, JSON]:
    """An answer with its word, and the answer to the request with that word as stop sequence."""
    stopping = stopping_in(text(finished(ask(target, PROMPT, stream=stream, max_tokens=_CAP))))
    given = {"stop_sequences": ["@@never@@", stopping.word], "max_tokens": _CAP}
    body = ask(target, PROMPT, stream=stream, **given)
    came, before = text(body), stopping.before
    expect_effect(
        stopping.word not in came or came.rstrip() == before.rstrip() + stopping.word,
        f"the stop sequence {stopping.word!r} was accepted, and the text is {came!r}",
        fact="stop_sequences are dropped",
    )
    if not stopping.answer.startswith(came.rstrip()):
        raise Unmeasured("the server answers differently each time, also at temperature 0")
    return stopping, body


def _stop_sequences(target: Target, *, stream: bool) -> None:
    stopping, body = _stopped(target, stream=stream)
    word, came, before = stopping.word, text(body), stopping.before
    expect(word not in came, f"the stop sequence {word!r} is kept in the text {came!r}")
    expect(came.rstrip() == before.rstrip(), f"the text is {came!r} instead of {before!r}")


def _stop_sequence(target: Target, *, stream: bool) -> None:
    stopping, body = _stopped(target, stream=stream)
    word = stopping.word
    reason, sequence = body.get("stop_reason"), body.get("stop_sequence")
    expect(
        reason == "stop_sequence",
        f"the stop sequence {word!r} ended the message, and the stop_reason is {reason!r}",
        fact="a stop sequence is not the stop_reason",
    )
    expect(sequence == word, f"the stop sequence {word!r} is named {sequence!r}")


def _system(target: Target, *, stream: bool) -> None:
    first, second = (
        effect(ask(target, stream=stream, max_tokens=8, system=system))
        for system in ("Be brief.", "You are a pirate. Answer as a pirate would, in one sentence.")
    )
    expect_effect(
        first != second,
        "another system prompt changes neither the text nor the number of tokens",
        fact="the system prompt is dropped",
    )


def _texts(target: Target, *, stream: bool, times: int = 2, **params: Any) -> list[str]:
    given = {"max_tokens": 12, **params}
    return [said(ask(target, _INVENT, stream=stream, **given)) for _ in range(times)]


def _temperature(target: Target, *, stream: bool) -> None:
    cold = _texts(target, stream=stream)
    if cold[0] != cold[1]:
        cold += _texts(target, stream=stream)
        narrow = _texts(target, stream=stream, temperature=1, top_k=1, top_p=0.01)
        if len(set(cold)) < len(cold):
            wavers = f"it wavers between few texts: {quote(sorted(set(cold)))}"
            raise Unmeasured(f"this model cannot show it: {wavers}")
        if narrow[0] != narrow[1]:
            raise Unmeasured("this model cannot show it: it varies whatever is asked")
        reason = f"temperature 0 gave {quote(cold)}"
        raise Ignored(reason, fact="temperature is dropped")
    if set(_texts(target, stream=stream, temperature=1, times=3)) == set(cold):
        raise Unmeasured("this model cannot show it: temperature 1 gives the text of temperature 0")


def _one_token(target: Target, *, stream: bool, name: str, value: float) -> None:
    cold = set(_texts(target, stream=stream))
    if len(cold) > 1:
        raise Unmeasured("the server answers differently each time, also at temperature 0")
    hot = set(_texts(target, stream=stream, temperature=1, times=3))
    if hot == cold:
        raise Unmeasured("this model cannot show it: temperature 1 gives the text of temperature 0")
    given: dict[str, Any] = {"temperature": 1, name: value}
    narrow = set(_texts(target, stream=stream, **given))
    if narrow == cold:
        return
    narrow |= set(_texts(target, stream=stream, **given))
    if narrow & cold or (len(narrow) < 3 and not narrow <= hot):
        raise Unmeasured("this model cannot show it: two texts are about as likely")
    one, came = quote(min(cold)), quote(sorted(narrow))
    raise Ignored(f"{name}={value!r} leaves only {one}, and {came} came", fact=f"{name} is dropped")


def _call(target: Target, choice: object, *, stream: bool, prompt: str) -> JSON:
    tools = [WEATHER, TIME]
    given = {"tools": tools, "tool_choice": choice, "max_tokens": CALL_TOKENS}
    return ask(target, prompt, stream=stream, **given)


def _expect_call(body: JSON, what: str, fact: str) -> None:
    if not called(body):
        judge_missing_call(what, text(body), is_cut=is_cut(body, CALL_TOKENS), fact=fact)


def _any_tool(target: Target, *, stream: bool) -> None:
    body = _call(target, {"type": "any"}, stream=stream, prompt="Say hello.")
    _expect_call(body, "any", REQUIRED_CHOICE_DROPPED)


def _named_tool(target: Target, *, stream: bool) -> None:
    named = {"type": "tool", "name": "get_time"}
    body = _call(target, named, stream=stream, prompt=ASK_WEATHER)
    _expect_call(body, "a named tool", NAMED_CHOICE_DROPPED)
    names = called(body)
    other = f"get_time was named, and {names!r} were called"
    expect_effect(set(names) == {"get_time"}, other, fact=NAMED_CHOICE_DROPPED)


def _tool_use(target: Target, *, stream: bool) -> None:
    body = _call(target, {"type": "tool", "name": "get_weather"}, stream=stream, prompt=ASK_WEATHER)
    calls = blocks(body, "tool_use")
    if not calls:
        raise Unmeasured("this model cannot show it: it makes no call, though one is demanded")
    expect(
        pick(calls[0], str, "id"),
        "the id of the tool_use is empty",
        fact="the id of a tool_use is empty",
    )
    name, given = pick(calls[0], str, "name"), pick(calls[0], dict, "input")
    expect(name == "get_weather", f"get_weather was demanded, and {name!r} is called")
    if given.keys() != {"city"}:
        raise Unmeasured(f"the model gives other arguments than the tool has: {quote(given)}")
    reason = body.get("stop_reason")
    expect(
        reason == "tool_use",
        f"a tool is called, and the stop_reason is {reason!r}",
        fact="the stop_reason of a call is not tool_use",
    )


def _schema(target: Target, *, stream: bool) -> None:
    wanted = {"format": {"type": "json_schema", "schema": COLOUR_SCHEMA}}
    body = ask(target, "Name a colour.", stream=stream, output_config=wanted, max_tokens=48)
    try:
        value = json.loads(need_text(text(body)))
    except ValueError:
        value = None
    expect_effect(
        value == COLOUR,
        f"a schema was accepted, and the message is {text(body)!r}",
        fact="output_config.format is dropped",
    )


_TOOLS = Capability.TOOLS
# The name, the title, what breaks, the source, the tier, a capability, and the check.
_EFFECTS: tuple[tuple[str, str, str, str, Tier, Capability | None, Callable[..., None]], ...] = (
    (
        "max_tokens",
        "has no more tokens than max_tokens",
        "A client pays for text that it did not ask for, and waits for it.",
        f"{DOCS}: max_tokens",
        SMOKE,
        None,
        _max_tokens,
    ),
    (
        "max_tokens.stop_reason",
        "that max_tokens cuts has the stop_reason max_tokens",
        "Clients take half an answer for a whole one.",
        f"{SDK}/message.py: stop_reason",
        CORE,
        None,
        _cut,
    ),
    (
        "stop_sequences",
        "ends just before a stop sequence",
        "Agents that stop a model at a marker read on behind it.",
        f"{DOCS}: stop_sequences",
        CORE,
        None,
        _stop_sequences,
    ),
    (
        "stop_sequence",
        "that a stop sequence ends has it as stop_sequence, and that as stop_reason",
        "Clients that give several sequences cannot know which one ended the message.",
        f"{SDK}/message.py: stop_sequence",
        CORE,
        None,
        _stop_sequence,
    ),
    (
        "system",
        "depends on the system prompt",
        "Instructions of the application are lost.",
        f"{DOCS}: system",
        CORE,
        None,
        _system,
    ),
    (
        "temperature",
        "is the same each time at temperature 0, and another one at temperature 1",
        "Tests and evaluations that need repeatable answers do not get them.",
        f"{DOCS}: temperature",
        CORE,
        None,
        _temperature,
    ),
    (
        "top_k",
        "at top_k 1 is that of temperature 0",
        "Clients that narrow the choice of tokens get unlikely ones.",
        f"{DOCS}: top_k",
        EXTENDED,
        None,
        partial(_one_token, name="top_k", value=1),
    ),
    (
        "top_p",
        "at a top_p near 0 is that of temperature 0",
        "Clients that narrow the choice of tokens get unlikely ones.",
        f"{DOCS}: top_p",
        EXTENDED,
        None,
        partial(_one_token, name="top_p", value=0.01),
    ),
    (
        "tool_choice.any",
        "calls a tool if tool_choice is any, though the prompt asks for none",
        "Agents whose every step is a call get prose.",
        f"{TOOL_USE}; {DOCS}: ToolChoiceAny",
        CORE,
        _TOOLS,
        _any_tool,
    ),
    (
        "tool_choice.tool",
        "calls the tool that tool_choice names, though the prompt asks for another",
        "Clients that get structured data by a tool get another tool's data, or prose.",
        f"{TOOL_USE}; {DOCS}: ToolChoiceTool",
        CORE,
        _TOOLS,
        _named_tool,
    ),
    (
        "tool_use",
        "that calls a tool has its id, its name and its input as an object",
        "The anthropic SDK's tool runner passes the input on as keyword arguments.",
        f"{SDK}/tool_use_block.py",
        SMOKE,
        _TOOLS,
        _tool_use,
    ),
    (
        "output_config",
        "fits the schema in output_config",
        "The anthropic SDK's `messages.parse` raises an error for the answer.",
        "anthropic-docs: build-with-claude/structured-outputs",
        EXTENDED,
        Capability.JSON_SCHEMA,
        _schema,
    ),
)
for stream in (False, True):
    for name, title, breaks, source, tier, capability, run in _EFFECTS:
        needs = {Capability.MESSAGES, *([capability] if capability else [])}
        rule(
            f"messages.{'stream.' if stream else ''}{name}",
            title=f"A {'streamed ' if stream else ''}message {title}.",
            breaks=breaks,
            level=REQUIRED,
            tier=max(tier, CORE) if stream else tier,
            source=source,
            needs=needs | ({Capability.STREAMING} if stream else set()),
            group="messages.stream" if stream else "messages",
        )(partial(run, stream=stream))
