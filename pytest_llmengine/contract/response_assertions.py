"""Helpers of checks of the responses API: both modes, the size of prompts, stored responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.assertions import (
    NO_ROUTE,
    TERMINAL,
    Events,
    items,
    of_type,
    output_text,
    pick,
    respond,
    stream_response,
)
from pytest_llmengine.contract.facts import NOT_STORED
from pytest_llmengine.contract.outcomes import (
    Ignored,
    Refused,
    Unmeasured,
    expect,
    expect_effect,
    quote,
)
from pytest_llmengine.contract.samples import ASK_WEATHER, CALL_TOKENS, JSON, TIME, WEATHER
from pytest_llmengine.contract.tool_answer import judge_missing_call, reaches_limit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

# A rule about a parameter tries both, because servers read the parameters twice.
MODES = (False, True)


WEATHER_TOOL: JSON = {"type": "function", **WEATHER["function"]}
TIME_TOOL: JSON = {"type": "function", **TIME["function"]}
CALL: JSON = {
    "given": ASK_WEATHER,
    "tools": [WEATHER_TOOL],
    "tool_choice": "required",
    "max_output_tokens": CALL_TOKENS,
}
REASONING: JSON = {"reasoning": {"effort": "low"}, "max_output_tokens": 64}

_SHORT, _LONG = "Hi", "Hi. " * 30


def answer(target: Target, given: object = "Say hello.", *, stream: bool, **params: Any) -> JSON:
    """A response, as a whole or from the last event of a stream."""
    if stream:
        return final(stream_response(target, given, **params))
    return respond(target, given, **params)


def mode(stream: bool) -> str:
    """How an answer came, for the reason of a verdict."""
    return "streamed" if stream else "whole"


def final(events: Events) -> JSON:
    """The response in the event that ends a stream."""
    return pick(of_type(events, *TERMINAL)[-1], dict, "response")


def output_items(body: JSON, kind: str, what: str) -> Events:
    """The output items of one type; unmeasured if there are none, because it is up to the model."""
    if not (found := items(body, kind)):
        raise Unmeasured(f"this model cannot show it: {what}")
    return found


def function_calls(body: JSON) -> list[str]:
    """The names of the functions that a response calls."""
    return [pick(call, str, "name") for call in items(body, "function_call")]


def expect_call(body: JSON, what: str, fact: str) -> None:
    """Expect a call, since tool_choice asks for one; ``fact`` is the cause if a text came."""
    if not function_calls(body):
        judge_missing_call(what, output_text(body), is_cut=is_cut(body), fact=fact)


def is_cut(body: JSON) -> bool:
    """Whether the token limit of a call ended the response."""
    return body.get("status") == "incomplete" or reaches_limit(body, CALL_TOKENS)


# ---- the size of the prompt


def input_tokens(body: JSON) -> int:
    """The size of the prompt; unmeasured without usage."""
    if body.get("usage") is None:
        raise Unmeasured("the response has no usage")
    return pick(body, int, "usage", "input_tokens")


def expect_larger(target: Target, smaller: JSON, larger: JSON, what: str, fact: str) -> None:
    """Expect a larger prompt in the second response; otherwise something was dropped.

    It is unmeasured if the server's counts do not depend on the prompt at all.
    """
    before, after = input_tokens(smaller), input_tokens(larger)
    if after > before:
        return
    short, long = (input_tokens(respond(target, text)) for text in (_SHORT, _LONG))
    if long <= short:
        raise Unmeasured("the count of input tokens does not depend on the prompt")
    raise Ignored(f"{what}: the prompt has {after} tokens with it and {before} without", fact=fact)


# ---- stored responses


def stored(target: Target, given: object = "Say hello.", **params: Any) -> JSON:
    """A response that the server has stored; otherwise the check ends.

    The check ends as ignored if ``store`` was accepted and the response is not found.
    """
    body = respond(target, given, store=True, **params)
    retrieve(target, body)
    return body


def retrieve(target: Target, body: Mapping[str, object], what: str = "store=true") -> JSON:
    """The stored response with the id of this one."""
    reply = target.get(path_of(body))
    expect_stored(reply, what)
    return reply.success()


def expect_stored(reply: Reply, what: str = "store=true") -> None:
    """End the check as ignored if the reply says that a response is not there.

    ``what`` is what the server accepted, and why it had to store the response. OpenAI answers a
    request that continues an unknown response with a 400 and a code. A 501 to such a request
    refuses the request, while one to a GET says that there is no such route.
    """
    missing = NO_ROUTE if reply.method == "GET" else {404}
    unknown = not reply.ok and "previous_response_not_found" in reply.text
    if unknown or reply.status in missing:
        reason = f"{what} was accepted, and the response is not found: {reply.status}"
        raise Ignored(reason, fact=NOT_STORED)


def path_of(body: Mapping[str, object], more: str = "") -> str:
    """The path of a response."""
    return f"/responses/{pick(body, str, 'id')}{more}"


def expect_route(reply: Reply) -> None:
    """End the check as refused if the server does not have the route."""
    if reply.status in NO_ROUTE:
        reason = f"{reply.method} {reply.path}: {reply.status} {quote(reply.text)}"
        raise Refused(reason, fact=reply.cause)


def found(reply: Reply) -> JSON:
    """The answer of a route for a stored response; refused if the server does not have it."""
    expect_route(reply)
    return reply.success_or_refused()


def not_found(reply: Reply, what: str, *, fact: str = "") -> None:
    """Expect a 404 or 400 with a message, as for an unknown name."""
    turned_down(reply, what, 404, fact=fact)


def turned_down(reply: Reply, what: str, status: int = 400, *, fact: str = "") -> None:
    """Expect this status, 400 or 422, with a message; after a 200 the input was ignored."""
    reply.expect_judged()
    shown = quote(reply.text)
    expect_effect(not reply.ok, f"{what} was accepted with 200", fact=fact)
    allowed = reply.status in {status, 400, 422}
    expect(allowed, f"{what}: {reply.status} instead of {status}: {shown}", fact=reply.cause)
    expect(reply.error_message, f"{what}: a {reply.status} without a message: {shown}")
