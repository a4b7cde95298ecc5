"""Checks of resp: the body of a whole answer of the responses endpoint."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import (
    LONG,
    answered_response,
    items,
    missing,
    need_text,
    objects,
    output_text,
    pick,
    respond,
)
from pytest_llmengine.contract.facts import REQUIRED_CHOICE_DROPPED, lost_from
from pytest_llmengine.contract.outcomes import Unmeasured, expect, quote
from pytest_llmengine.contract.registry import EXTENDED, REQUIRED, check
from pytest_llmengine.contract.response_assertions import expect_call
from pytest_llmengine.contract.samples import ASK_WEATHER, CALL_TOKENS, JSON, WEATHER

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="responses")

SPEC = "openai-openapi: Response"
NEEDS = {Capability.RESPONSES}
TOOL = {"type": "function", **WEATHER["function"]}
_KEYS = (
    *("id", "object", "created_at", "error", "incomplete_details", "instructions", "model"),
    *("tools", "output", "parallel_tool_calls", "metadata", "tool_choice", "temperature", "top_p"),
)


@rule("resp.required", level=REQUIRED, tier=EXTENDED, source=f"{SPEC}.required", needs=NEEDS)
def required_fields(target: Target) -> None:
    """A response has the fields that the schema requires, null ones included.

    Typed SDKs hand out None, or raise, for a field that their types promise.
    """
    body = respond(target)
    expect(pick(body, str, "object") == "response", f"object is {body['object']!r}")
    absent = missing(body, *_KEYS)
    expect(
        not absent,
        f"missing: {', '.join(absent)}",
        fact=lost_from("response", absent),
    )


@rule(
    "resp.input.string_and_items",
    level=REQUIRED,
    tier=EXTENDED,
    source="openai-openapi: CreateResponse.input",
    needs=NEEDS,
)
def input_forms(target: Target) -> None:
    """A string and a list of one user message with that text get the same answer.

    An application that moves from a string to a list of messages gets other answers.
    """
    parts = [{"type": "input_text", "text": "Say hello."}]
    plain = output_text(respond(target))
    listed = output_text(respond(target, [{"role": "user", "content": parts}]))
    need_text(plain)
    if listed != plain and output_text(respond(target)) != plain:
        raise Unmeasured("the server answers differently each time, also at temperature 0")
    expect(listed == plain, f"for the string {plain!r}, for the list {listed!r}")


@rule(
    "resp.output.message",
    level=REQUIRED,
    tier=EXTENDED,
    source="openai-openapi: OutputMessage.required",
    needs=NEEDS,
)
def output_message(target: Target) -> None:
    """The output is a message with id, role, status and an output_text with its annotations.

    output_text of the openai SDK is empty, although the model has answered.
    """
    messages = items(respond(target), "message")
    expect(len(messages) == 1, f"{len(messages)} messages in the output")
    absent = missing(messages[0], "id", "type", "role", "content", "status")
    expect(not absent, f"the message has no {', '.join(absent)}")
    expect(messages[0]["role"] == "assistant", f"the role is {messages[0]['role']!r}")
    part = pick(messages[0], dict, "content", 0)
    expect(part.get("type") == "output_text", f"the content is {quote(part)}")
    pick(part, list, "annotations")
    need_text(pick(part, str, "text"))


@rule(
    "resp.usage",
    level=REQUIRED,
    tier=EXTENDED,
    source="openai-openapi: ResponseUsage.required",
    needs=NEEDS,
)
def usage(target: Target) -> None:
    """The usage counts input, output and total, with the details of both.

    Cost reports fail, because the SDKs read the details without a check.
    """
    body = respond(target)
    if body.get("usage") is None:
        raise Unmeasured("the response has no usage")
    counted = pick(body, dict, "usage")
    given, made, total = (
        pick(counted, int, key) for key in ("input_tokens", "output_tokens", "total_tokens")
    )
    if not made:
        need_text(output_text(body))
    expect(given > 0 < made, f"nothing counted: {quote(counted)}")
    expect(total == given + made, f"the total is not the sum: {quote(counted)}")
    pick(counted, int, "input_tokens_details", "cached_tokens")
    details = "output_tokens_details"
    without = f"the usage has no {details}: {quote(counted)}"
    expect(details in counted, without, fact=lost_from("response", [f"usage.{details}"]))
    pick(counted, int, details, "reasoning_tokens")


@rule(
    "resp.incomplete.max_output_tokens",
    level=REQUIRED,
    tier=EXTENDED,
    source=f"{SPEC}.incomplete_details.reason",
    needs=NEEDS,
)
def incomplete(target: Target) -> None:
    """A response that the token cap cuts is incomplete, for max_output_tokens.

    A client takes half an answer for a whole one.
    """
    body = respond(target, LONG, max_output_tokens=16)
    if body.get("usage") and pick(body, int, "usage", "output_tokens") < 16:
        raise Unmeasured("this model cannot show it: its answer is shorter than the limit")
    status = pick(body, str, "status")
    expect(status == "incomplete", f"the status is {status!r} after {output_text(body)!r}")
    reason = pick(body, str, "incomplete_details", "reason")
    expect(reason == "max_output_tokens", f"the reason is {reason!r}")


@rule(
    "resp.tool_choice",
    level=REQUIRED,
    tier=EXTENDED,
    source="openai-openapi: ToolChoiceOptions",
    needs=NEEDS | {Capability.TOOLS},
)
def tool_choice(target: Target) -> None:
    """tool_choice required gives a function call, though the prompt asks for none.

    An agent that forces a call gets prose.
    """
    body = _required_call(target, "Say hello.")
    expect_call(body, "required", REQUIRED_CHOICE_DROPPED)


@rule(
    "resp.function_call.shape",
    level=REQUIRED,
    tier=EXTENDED,
    source="openai-openapi: FunctionToolCall.required",
    needs=NEEDS | {Capability.TOOLS},
)
def function_call_shape(target: Target) -> None:
    """A function call has call_id, name, arguments as a string, and a status.

    A client cannot send the result of the call, because it has no call_id to name.
    """
    calls = items(_required_call(target, ASK_WEATHER), "function_call")
    if not calls:
        raise Unmeasured("no function call to look at")
    for call in calls:
        expect(pick(call, str, "call_id"), f"the call_id is empty: {quote(call)}")
        expect(pick(call, str, "name") == "get_weather", f"the name is {call['name']!r}")
        pick(call, str, "arguments")
        expect(pick(call, str, "status") == "completed", f"the status is {call['status']!r}")


def _required_call(target: Target, prompt: str) -> JSON:
    body = respond(
        target, prompt, tools=[TOOL], tool_choice="required", max_output_tokens=CALL_TOKENS
    )
    objects(body, "output")
    return answered_response(body)
