"""Checks of messages: the message, its prompt, its token counts and its tools."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import missing, need_text, pick
from pytest_llmengine.contract.facts import (
    LIMIT_NOT_KEPT,
    NONE_CHOICE_DROPPED,
    PARALLEL_DROPPED,
    PARTS_DIFFER,
    lost_from,
)
from pytest_llmengine.contract.messages_api import (
    COUNTING,
    DOCS,
    HISTORY,
    NEWEST,
    NO_KEY,
    PIXEL,
    SDK,
    THINKING,
    TIME,
    TOOL_USE,
    WEATHER,
    ask,
    blocks,
    called,
    count,
    effect,
    is_cut,
    prompt_tokens,
    results,
    rule,
    said,
    send,
    text,
    usage_of,
    user,
)
from pytest_llmengine.contract.outcomes import Unmeasured, expect, expect_effect, quote
from pytest_llmengine.contract.registry import CORE, EXPECTED, EXTENDED, OPTIONAL, REQUIRED, SMOKE
from pytest_llmengine.contract.samples import ASK_BOTH, ASK_WEATHER, CALL_TOKENS, JSON
from pytest_llmengine.contract.tool_answer import expect_no_markup

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(rule, group="messages")
TOOLS = {Capability.MESSAGES, Capability.TOOLS}
STOP_REASONS = (
    *("end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal"),
    "model_context_window_exceeded",
)


# ---- the message


@rule("messages.required", level=REQUIRED, tier=SMOKE, source=f"{SDK}/message.py")
def required(target: Target) -> None:
    """A message has its eight fields, and is of the type message and the role assistant.

    The anthropic SDK builds its objects without validation, so a field that is missing is an
    AttributeError far from the request.
    """
    body = ask(target)
    wanted = ("id", "type", "role", "content", "model", "stop_reason", "stop_sequence", "usage")
    absent = missing(body, *wanted)
    lost = lost_from("message", absent)
    expect(not absent, f"the message has no {', '.join(absent)}", fact=lost)
    kinds = body["type"], body["role"]
    expect(kinds == ("message", "assistant"), f"type and role are {kinds!r}")


@rule("messages.id_unique", level=REQUIRED, tier=CORE, source=f"{SDK}/message.py: id")
def id_unique(target: Target) -> None:
    """Two messages have different ids.

    Clients that store messages by their id overwrite one with the other.
    """
    first, second = (pick(ask(target, max_tokens=1), str, "id") for _ in range(2))
    expect(first and first != second, f"the ids of two messages are {first!r} and {second!r}")


@rule("messages.model", level=EXPECTED, tier=CORE, source=f"{SDK}/message.py: model")
def model(target: Target) -> None:
    """A message names the model that was asked.

    Clients that look up prices or limits by the name in the answer do not find it.
    """
    named = pick(ask(target, max_tokens=1), str, "model")
    expect(named == target.model, f"{target.model!r} was asked, and the message names {named!r}")


@rule("messages.stop_reason", level=REQUIRED, tier=CORE, source=f"{SDK}/message.py: stop_reason")
def stop_reason(target: Target) -> None:
    """A message that ends by itself has the stop_reason end_turn, and no stop_sequence.

    Agent loops go on until the stop_reason is end_turn.
    """
    body = ask(target, "Reply with the word yes.", max_tokens=48)
    reason = pick(body, str, "stop_reason")
    expect(reason in STOP_REASONS, f"the stop_reason {reason!r} is not one of the API")
    if reason in {"max_tokens", "refusal"}:
        raise Unmeasured("this model cannot show it: it does not end a short answer, or refuses")
    expect(reason == "end_turn", f"the stop_reason is {reason!r} instead of end_turn")
    sequence = body.get("stop_sequence")
    expect(sequence is None, f"the stop_sequence is {sequence!r}, and none was given")


# ---- prompts: what was sent reaches the model


def _equal(target: Target, one: JSON, other: JSON, what: str) -> None:
    first, second = (prompt_tokens(ask(target, max_tokens=1, **given)) for given in (one, other))
    reason = f"{what}: the prompts have {first} and {second} tokens"
    expect(first == second, reason, fact=PARTS_DIFFER if second > first else "")  # or it is lost


def _reaches(target: Target, part: JSON, whole: JSON, what: str) -> None:
    first, second = (effect(ask(target, max_tokens=12, **given)) for given in (part, whole))
    same = f"{what} changes neither the text nor the number of tokens"
    expect_effect(first != second, same)


_TEXT = {"type": "text", "text": "Say hello."}
_MORE = {"type": "text", "text": "Then name three rivers of France."}
_SYSTEM = "You are a pirate. Answer as a pirate would."
_LAST = [{"role": "user", "content": "What is my name?"}]
PROMPTS = (
    (
        "content.blocks",
        "A content that is a list of one text block is the same prompt as the text alone",
        "Anthropic's SDKs send lists of blocks, and the model sees another prompt than in a test.",
        partial(
            _equal,
            one={"messages": user("Say hello.")},
            other={"messages": user([_TEXT])},
            what="a text, and the same text as a block",
        ),
    ),
    (
        "content.parts",
        "Every text block of a content reaches the model",
        "Files and instructions that a client sends as blocks of their own are lost.",
        partial(
            _reaches,
            part={"messages": user([_TEXT])},
            whole={"messages": user([_TEXT, _MORE])},
            what="a second text block",
        ),
    ),
    (
        "system.blocks",
        "A system prompt that is a list of one text block is the same as the text alone",
        "Clients that mark the system prompt for the cache send it as a block.",
        partial(
            _equal,
            one={"system": _SYSTEM},
            other={"system": [{"type": "text", "text": _SYSTEM}]},
            what="a system prompt, and the same text as a block",
        ),
    ),
    (
        "multi_turn",
        "The earlier turns of a chat reach the model",
        "A chat has no memory.",
        partial(
            _reaches,
            part={"messages": _LAST},
            whole={"messages": [*HISTORY, *_LAST]},
            what="the history",
        ),
    ),
    (
        "consecutive_roles",
        "Two user messages in a row are one turn, and both reach the model",
        "Clients that add a note to the user's message lose one of the two.",
        partial(
            _reaches,
            part={"messages": _LAST},
            whole={"messages": [*user("My name is Zorblax."), *_LAST]},
            what="a user message before another one",
        ),
    ),
    (
        "tool_result.content",
        "The content of a tool_result reaches the model",
        "The model answers without what its tool has found.",
        partial(
            _reaches,
            part={"messages": results("sunny"), "tools": [WEATHER]},
            whole={"messages": results("a storm with hail, 4711 flashes"), "tools": [WEATHER]},
            what="another content of a tool_result",
        ),
    ),
    (
        "tool_result.blocks",
        "A tool_result whose content is a list of one text block is the same as the text alone",
        "Anthropic's agents send results as lists of blocks, and the model sees another prompt.",
        partial(
            _equal,
            one={"messages": results("sunny"), "tools": [WEATHER]},
            other={"messages": results([{"type": "text", "text": "sunny"}]), "tools": [WEATHER]},
            what="a result, and the same result as a block",
        ),
    ),
)
for name, title, breaks, run in PROMPTS:
    with_tools = {Capability.TOOLS} if "tools" in run.keywords.get("one", {}) else set()
    rule(
        f"messages.{name}",
        title=f"{title}.",
        breaks=breaks,
        level=REQUIRED,
        tier=CORE,
        source=f"{DOCS}: MessageParam.content",
        needs={Capability.MESSAGES, *with_tools},
    )(run)


@rule("messages.prefill", level=EXPECTED, tier=EXTENDED, source=f"{DOCS}: messages")
def prefill(target: Target) -> None:
    """A last message of the assistant is continued, and not repeated.

    Clients put the beginning of the answer before the answer, so it is there twice.
    """
    begun = "The three rivers are the"
    history = [*user("Name three rivers of France."), {"role": "assistant", "content": begun}]
    answer = text(ask(target, messages=history))
    if not answer.strip():
        raise Unmeasured("this model cannot show it: it adds nothing to the beginning")
    repeated = answer.lstrip().startswith(begun)
    expect(not repeated, f"the answer repeats its beginning, which was given: {answer!r}")


@rule(
    "messages.content.image",
    level=EXPECTED,
    tier=EXTENDED,
    source=f"{SDK}/image_block_param.py",
    needs={Capability.MESSAGES},
)
def image(target: Target) -> None:
    """An image is read, or refused with a message; it does not break the server.

    Clients retry a 5xx, and take a text about no image for an answer about it.
    """
    plain = effect(ask(target, max_tokens=4))
    reply = send(target, max_tokens=4, messages=user([PIXEL, _TEXT]))
    if reply.is_refusal:
        return
    seen = effect(reply.success())
    expect_effect(plain != seen, "an image changes neither the text nor the number of tokens")


# ---- token counts


@rule("messages.usage", level=REQUIRED, tier=CORE, source=f"{SDK}/usage.py")
def usage(target: Target) -> None:
    """The usage counts the tokens of the prompt and of the answer.

    Costs are computed from the usage, and agents shorten their history by it.
    """
    short, long = (ask(target, prompt, max_tokens=4) for prompt in ("Hi", "Hi there " * 20))
    given = pick(usage_of(short), int, "output_tokens")
    if not given:
        need_text(said(short))
    longer = len(said(short).split()) > 4
    expect_effect(not longer, f"max_tokens=4, and the text is {said(short)!r}", fact=LIMIT_NOT_KEPT)
    expect(1 <= given <= 4, f"max_tokens=4, and output_tokens is {given}")
    counts = prompt_tokens(short), prompt_tokens(long)
    expect(0 < counts[0] < counts[1], f"the tokens of a short and of a long prompt are {counts!r}")


@rule("messages.usage.repeated", level=EXPECTED, tier=CORE, source=f"{SDK}/usage.py")
def usage_repeated(target: Target) -> None:
    """A repeated prompt has the same number of tokens, with those that a cache holds.

    The same request costs another amount each time.
    """
    counts = [prompt_tokens(ask(target, max_tokens=1)) for _ in range(3)]
    expect(len(set(counts)) == 1, f"the same prompt has {counts!r} tokens")


@rule("messages.count_tokens", level=EXPECTED, tier=CORE, source=COUNTING)
def count_tokens(target: Target) -> None:
    """count_tokens gives the number of tokens that the usage of the same prompt has.

    Clients that cut their history to the context by this number lose too much, or too little.
    """
    given: JSON = {"system": _SYSTEM, "messages": [*HISTORY, *_LAST]}
    used = prompt_tokens(ask(target, max_tokens=1, **given))
    counted = count(target, **given)
    expect(counted == used, f"count_tokens gives {counted}, and the usage {used}")


@rule("messages.count_tokens.tools", level=EXPECTED, tier=EXTENDED, source=COUNTING, needs=TOOLS)
def count_tokens_tools(target: Target) -> None:
    """count_tokens counts the tools too.

    The tools are the largest part of an agent's prompt.
    """
    ask(target, max_tokens=1)
    plain, counted = count(target), count(target, tools=[WEATHER, TIME])
    expect_effect(plain < counted, f"{plain} tokens without tools, and {counted} with two of them")


# ---- tools and thinking


def _ask_tools(target: Target, choice: object, prompt: str = ASK_WEATHER) -> JSON:
    return ask(
        target, prompt, tools=[WEATHER, TIME], tool_choice=choice, max_tokens=2 * CALL_TOKENS
    )


@rule("messages.tool_choice.none", level=REQUIRED, tier=CORE, source=TOOL_USE, needs=TOOLS)
def choice_none(target: Target) -> None:
    """tool_choice none gives no tool_use and none of its markup, if the prompt asks for one.

    Clients that want a summary at the end of an agent's work get another call instead.
    """
    body = _ask_tools(target, {"type": "none"})
    names = called(body)
    expect_effect(
        not names, f"none was accepted, and {names!r} was called", fact=NONE_CHOICE_DROPPED
    )
    expect_no_markup(text(body), is_cut=is_cut(body, 2 * CALL_TOKENS))
    if not called(_ask_tools(target, {"type": "auto"})):
        raise Unmeasured("this model cannot show it: it makes no call with auto either")


@rule(
    "messages.tool_choice.disable_parallel",
    level=REQUIRED,
    tier=EXTENDED,
    source=f"{SDK}/tool_choice_any_param.py: disable_parallel_tool_use",
    needs=TOOLS,
)
def disable_parallel(target: Target) -> None:
    """disable_parallel_tool_use gives at most one tool_use.

    Clients that run one tool at a time drop the second call, and the next request is refused.
    """
    alone = {"type": "any", "disable_parallel_tool_use": True}
    names = called(_ask_tools(target, alone, ASK_BOTH))
    several = f"one call was asked for, and {names!r} were called"
    expect_effect(len(names) < 2, several, fact=PARALLEL_DROPPED)
    if len(called(_ask_tools(target, {"type": "any"}, ASK_BOTH))) < 2:
        raise Unmeasured("this model cannot show it: it makes no two calls at once")


@rule(
    "messages.thinking",
    level=OPTIONAL,
    tier=EXTENDED,
    source=THINKING,
    needs={Capability.MESSAGES, Capability.REASONING},
)
def thinking(target: Target) -> None:
    """With thinking enabled, a block of thinking with its signature comes before the text.

    The anthropic SDK sends the block back with its signature, which is a required field.
    """
    # The API refuses a temperature together with thinking.
    ask_plainly = partial(ask, target, "What is 3 plus 4?", temperature=...)
    enabled = {"type": "enabled", "budget_tokens": 1024}
    found = blocks(ask_plainly(thinking=enabled, max_tokens=1152))
    if not any(block["type"] == "thinking" for block in found):
        raise Unmeasured("this model cannot show it: it does not think")
    expect(found[0]["type"] == "thinking", f"the first block is {quote(found[0])}")
    pick(found[0], str, "thinking")
    pick(found[0], str, "signature")
    calm = ask_plainly(thinking={"type": "disabled"}, max_tokens=48)
    expect_effect(not blocks(calm, "thinking"), f"thinking is disabled: {said(calm)!r}")


@rule(
    "messages.version.newest",
    level=EXPECTED,
    tier=CORE,
    source="anthropic-docs: api/versioning",
)
def newest_version(target: Target) -> None:
    """A request of the API's version 2026-10-21 is answered.

    Version 2 of the anthropic SDK sends this version with every request.
    """
    reply = send(target, temperature=..., max_tokens=4, headers=NEWEST)
    text(reply.success_or_refused())


@rule(
    "messages.auth.x_api_key",
    level=EXPECTED,
    tier=EXTENDED,
    source="anthropic-docs: api/overview",
    needs={Capability.MESSAGES, Capability.AUTH},
)
def x_api_key(target: Target) -> None:
    """The key is read from the header x-api-key.

    The anthropic SDK before version 2 sends its api_key in this header alone.
    """
    if not target.api_key:
        ask(target, max_tokens=1)
        raise Unmeasured("this target has no api_key, so its server may need none")
    ask(target, max_tokens=1)
    bad = send(target, max_tokens=1, headers={**NO_KEY, "x-api-key": "not-a-key-of-this-server"})
    if bad.ok:
        raise Unmeasured("the server answers without a key, so it may not have read this one")
    reply = send(target, max_tokens=1, headers={**NO_KEY, "x-api-key": target.api_key})
    expect(reply.ok, f"the key in x-api-key: {reply.status} instead of 200: {quote(reply.text)}")
    blocks(reply.success())
