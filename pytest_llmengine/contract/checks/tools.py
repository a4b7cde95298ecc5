"""Checks of tools: the form of tool calls, and of their results in the history."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import jsonschema

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import (
    CALL_MARKUP,
    answered,
    choice,
    content,
    pick,
    tool_calls,
)
from pytest_llmengine.contract.outcomes import Unmeasured, expect, fail, quote
from pytest_llmengine.contract.registry import (
    EXPECTED,
    EXTENDED,
    QUIRK,
    REQUIRED,
    SMOKE,
    check,
)
from pytest_llmengine.contract.samples import (
    ASK_WEATHER,
    CALL_TOKENS,
    JSON,
    PING,
    ROUTE,
    SAVE_WORD,
    WEATHER,
    WORD,
    named,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="tools")

SPEC = "openai-openapi: ChatCompletionMessageToolCall"
NEEDS = {Capability.TOOLS}


@rule("tools.call.shape", level=REQUIRED, tier=SMOKE, source=f"{SPEC}.required", needs=NEEDS)
def call_shape(target: Target) -> None:
    """A tool call has an id, the type function, a name, and arguments as a string."""
    for call in tool_calls(_called(target, ASK_WEATHER, WEATHER)):
        expect(pick(call, str, "id"), f"the id is empty: {quote(call)}")
        expect(pick(call, str, "type") == "function", f"the type is {call['type']!r}")
        name = pick(call, str, "function", "name")
        expect(name == "get_weather", f"the name is {name!r}")
        pick(call, str, "function", "arguments")


@rule(
    "tools.call.arguments_json",
    level=EXPECTED,
    tier=EXTENDED,
    source="openai-openapi: ChatCompletionMessageToolCall.function.arguments",
    needs=NEEDS,
)
def arguments_json(target: Target) -> None:
    """The arguments of a strict tool are JSON that its schema allows."""
    _arguments(target, ASK_WEATHER, WEATHER)


@rule(
    "tools.finish_reason.auto_required",
    level=EXPECTED,
    tier=EXTENDED,
    source="OpenAI observed (vllm#25054)",
    needs=NEEDS,
)
def finish_reason_required(target: Target) -> None:
    """A call that tool_choice required ends with the finish reason tool_calls."""
    reason = choice(_called(target, ASK_WEATHER, WEATHER)).get("finish_reason")
    expect(reason == "tool_calls", f"the finish reason is {reason!r}")


@rule(
    "tools.finish_reason.named",
    level=EXPECTED,
    tier=EXTENDED,
    source="OpenAI observed (vllm#25054)",
    needs=NEEDS,
)
def finish_reason_named(target: Target) -> None:
    """A call of the function that tool_choice names ends with the finish reason stop."""
    body = _called(target, ASK_WEATHER, WEATHER, tool_choice=named(WEATHER))
    reason = choice(body).get("finish_reason")
    expect(reason == "stop", f"the finish reason is {reason!r}")


@rule(
    "tools.no_marker_leak",
    level=QUIRK,
    tier=EXTENDED,
    source="the markup of a chat template is no text for users",
    needs=NEEDS,
)
def no_marker_leak(target: Target) -> None:
    """The markup that a model writes around a tool call never shows in the content."""
    body = _ask(target, ASK_WEATHER, WEATHER, tool_choice="auto")
    leaked = [marker for marker in CALL_MARKUP if marker in content(body)]
    expect(not leaked, f"{leaked} in the content: {quote(content(body))}")
    _need_calls(body)


@rule(
    "tools.unicode_args",
    level=QUIRK,
    tier=EXTENDED,
    source="vllm#58824, sglang#41316: characters lost in arguments",
    needs=NEEDS,
)
def unicode_args(target: Target) -> None:
    """Characters outside ASCII survive in the arguments."""
    arguments = _arguments(target, f"Save the word {WORD}. Call the tool.", SAVE_WORD)
    expect(arguments == {"word": WORD}, f"the arguments are {quote(arguments)}")


@rule(
    "tools.empty_args",
    level=QUIRK,
    tier=EXTENDED,
    source="ollama#18658: a call without arguments",
    needs=NEEDS,
)
def empty_args(target: Target) -> None:
    """A function without parameters is called with the arguments {}."""
    arguments = _arguments(target, "Ping the server. Call the tool.", PING)
    expect(arguments == {}, f"the arguments are {quote(arguments)}")


@rule(
    "tools.nested",
    level=QUIRK,
    tier=EXTENDED,
    source="vllm#58824: nested arguments that come back as text",
    needs=NEEDS,
)
def nested_args(target: Target) -> None:
    """Objects and lists within the arguments stay objects and lists."""
    arguments = _arguments(target, "Plan a route over Lyon. Call the tool.", ROUTE)
    expect(pick(arguments, list, "route", "stops"), f"the arguments are {quote(arguments)}")


@rule(
    "tools.history_bad_json_args",
    level=EXPECTED,
    tier=EXTENDED,
    source="a model's own broken arguments come back in the history",
    needs=NEEDS,
)
def history_bad_json_args(target: Target) -> None:
    """Arguments in the history that are not JSON give an answer or a clear 400, never a 500."""
    choice(_after_call(target, '{"city": "Paris"}').success_or_refused())
    reply = _after_call(target, '{"city": "Par')
    if reply.status != 400:
        choice(reply.success())
    expect(reply.ok or reply.error_message, "a 400 without a message")


def _after_call(target: Target, arguments: str) -> Reply:
    """The reply to a history that contains a call with these arguments."""
    call = {"name": "get_weather", "arguments": arguments}
    question: JSON = {"role": "user", "content": ASK_WEATHER}
    called: JSON = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
    }
    result: JSON = {"role": "tool", "tool_call_id": "call_1", "content": "It is sunny."}
    return target.chat([question, called, result], tools=[WEATHER], max_tokens=8)


def _ask(target: Target, prompt: str, tool: JSON, **params: Any) -> dict[str, Any]:
    reply = target.chat(prompt, tools=[tool], max_tokens=CALL_TOKENS, **params)
    return answered(reply.success_or_refused())


def _need_calls(body: dict[str, Any]) -> None:
    if not tool_calls(body):
        raise Unmeasured(f"no tool call to look at; the model said {content(body)!r}")


def _called(
    target: Target, prompt: str, tool: JSON, tool_choice: str | JSON = "required"
) -> dict[str, Any]:
    """An answer with a required call; unmeasured if there is no call."""
    body = _ask(target, prompt, tool, tool_choice=tool_choice)
    _need_calls(body)
    return body


def _arguments(target: Target, prompt: str, tool: JSON) -> Any:
    """The arguments of a required call; the check fails if the tool's schema forbids them."""
    first = tool_calls(_called(target, prompt, tool))[0]
    text = pick(first, str, "function", "arguments")
    try:
        arguments = json.loads(text)
        jsonschema.validate(arguments, tool["function"]["parameters"])
    except (ValueError, RecursionError, jsonschema.ValidationError) as error:
        fail(f"the arguments {quote(text)} do not fit the schema: {str(error).splitlines()[0]}")
    return arguments
