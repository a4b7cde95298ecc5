"""Requests of Anthropic's Messages API, and readers of its answers, for the checks of messages."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract import samples
from pytest_llmengine.contract.assertions import objects, pick
from pytest_llmengine.contract.facts import NO_MESSAGE_START, lost_from
from pytest_llmengine.contract.outcomes import Unmeasured, expect, fail, quote
from pytest_llmengine.contract.registry import check
from pytest_llmengine.contract.samples import ASK_WEATHER, JSON
from pytest_llmengine.contract.tool_answer import reaches_limit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target


Events = list[JSON]

rule = partial(check, needs={Capability.MESSAGES}, since="2026-11-27")

DOCS = "anthropic-docs: api/messages"
SDK = "anthropic-sdk-python 2.14.0: src/anthropic/types"
STREAMING = "anthropic-docs: build-with-claude/streaming"
TOOL_USE = "anthropic-docs: agents-and-tools/tool-use/overview"
COUNTING = "anthropic-docs: api/messages-count-tokens"
THINKING = "anthropic-docs: build-with-claude/extended-thinking"
VERSION = {"anthropic-version": "2023-06-01"}  # the last one with temperature, top_p and top_k
NEWEST = {"anthropic-version": "2026-10-21"}
NO_KEY = {**VERSION, "Authorization": ""}
# Many short answers have one of these, so a server that accepts too much does not write for long.
SOON = ["a", "e", "i", "o", "u"]


def send(
    target: Target,
    path: str = "/messages",
    *,
    headers: Mapping[str, str] = VERSION,
    **params: Any,
) -> Reply:
    """POST a request: temperature 0 and 16 tokens unless `params` say otherwise.

    A parameter set to ``...`` is left out of the body.
    """
    body = {
        "model": target.model,
        "messages": user("Say hello."),
        "temperature": 0,
        "max_tokens": 16,
    } | params
    return target.post(path, {k: v for k, v in body.items() if v is not ...}, headers=headers)


def user(content: object) -> list[JSON]:
    """The messages of a chat with one user message."""
    return [{"role": "user", "content": content}]


def ask(target: Target, prompt: object = None, *, stream: bool = False, **params: Any) -> JSON:
    """The message in the answer, which is joined from its events if it is streamed.

    After a clear refusal the check ends as refused. ``prompt`` is the content of one user message.
    """
    if prompt is not None:
        params["messages"] = user(prompt)
    if stream:
        return joined(events(target, **params))
    body = send(target, **params).success_or_refused()
    blocks(body)
    return body


def events(target: Target, **params: Any) -> Events:
    """The events of a streamed message; after a clear refusal the check ends as refused."""
    found = send(target, stream=True, **params).objects_or_refused()
    for event in found:
        if pick(event, str, "type") == "error":
            fail(f"an error in mid-stream: {quote(event)}")
    return found


def count(target: Target, **params: Any) -> int:
    """The number of tokens of a prompt, by the route that counts them."""
    fields: JSON = {"max_tokens": ..., "temperature": ...} | params
    reply = send(target, "/messages/count_tokens", **fields)
    return pick(reply.success_or_refused(), int, "input_tokens")


# ---- tools and messages that checks send


def _tool(tool: JSON) -> JSON:
    """A tool of chat completions in Anthropic's form."""
    function = tool["function"]
    kept = {key: function[key] for key in ("name", "description")}
    return {**kept, "input_schema": function["parameters"]}


WEATHER = _tool(samples.WEATHER)
TIME = _tool(samples.TIME)
HISTORY: list[JSON] = [
    {"role": "user", "content": "My name is Zorblax."},
    {"role": "assistant", "content": "Nice to meet you."},
]
PIXEL: JSON = {
    "type": "image",
    "source": {
        "type": "base64",
        "media_type": "image/png",
        "data": (
            "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ"
            "RU5ErkJggg=="
        ),
    },
}


def results(content: object) -> list[JSON]:
    """A chat in which the tool was called and has answered with this content."""
    call = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": content}
    return [
        {"role": "user", "content": ASK_WEATHER},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]


# ---- readers of a message


def blocks(body: JSON, kind: str | None = None) -> list[JSON]:
    """The content blocks, or those of one type."""
    found = objects(body, "content")
    kinds = [pick(block, str, "type") for block in found]
    return [b for b, k in zip(found, kinds, strict=True) if kind in (None, k)]


def text(body: JSON) -> str:
    """The text blocks, joined."""
    return "".join(pick(block, str, "text") for block in blocks(body, "text"))


def said(body: JSON) -> str:
    """All that the model has written: its thinking, then its text."""
    thoughts = [pick(block, str, "thinking") for block in blocks(body, "thinking")]
    return "".join(thoughts) + text(body)


def called(body: JSON) -> list[str]:
    """The names of the tools that the message calls."""
    return [pick(block, str, "name") for block in blocks(body, "tool_use")]


def usage_of(body: JSON) -> JSON:
    """The usage of a message or of an event, which each must have."""
    expect(
        body.get("usage"), f"there is no usage: {quote(body)}", fact=lost_from("message", ["usage"])
    )
    return pick(body, dict, "usage")


def prompt_tokens(body: JSON) -> int:
    """All tokens of the prompt; those that were written to a cache or read from it count apart."""
    usage = usage_of(body)
    cached = ("cache_creation_input_tokens", "cache_read_input_tokens")
    given = [pick(usage, int, name) for name in cached if usage.get(name) is not None]
    return pick(usage, int, "input_tokens") + sum(given)


def is_cut(body: JSON, limit: int) -> bool:
    """Whether the token limit ended the message."""
    return body.get("stop_reason") == "max_tokens" or reaches_limit(body, limit)


def finished(body: JSON) -> JSON:
    """The message; unmeasured if the token limit cut it before it had any text."""
    if body.get("stop_reason") == "max_tokens" and not text(body):
        raise Unmeasured("this model cannot show it: the token limit came before any text")
    return body


def effect(body: JSON) -> tuple[str, int]:
    """What changes if the model sees another prompt: all that it says and the prompt's tokens."""
    return said(body), prompt_tokens(body)


# ---- streams


def joined(found: Events) -> JSON:
    """The message that the events make, as Anthropic's SDK accumulates it.

    The check fails if an event does not fit to those before it.
    """
    started = [event for event in found if event["type"] == "message_start"]
    fact = "" if started else NO_MESSAGE_START
    expect(len(started) == 1, f"{len(started)} events message_start", fact=fact)
    message: JSON = {**pick(started[0], dict, "message")}
    parts: list[JSON] = []
    inputs: dict[int, str] = {}
    for event in found:
        kind = event["type"]
        if kind == "content_block_start":
            parts.append({**pick(event, dict, "content_block")})
        elif kind == "content_block_delta":
            index = pick(event, int, "index")
            expect(index < len(parts), f"a delta of block {index} before its start")
            _add(parts[index], pick(event, dict, "delta"), inputs, index)
        elif kind == "message_delta":
            message |= pick(event, dict, "delta")
            message["usage"] = {**(message.get("usage") or {}), **(event.get("usage") or {})}
    for index, whole in inputs.items():
        parts[index]["input"] = _parsed(whole)
    message["content"] = parts
    return message


_FIELDS = {"text_delta": "text", "thinking_delta": "thinking"}


def _add(block: JSON, delta: JSON, inputs: dict[int, str], index: int) -> None:
    kind = pick(delta, str, "type")
    if kind in _FIELDS:
        field = _FIELDS[kind]
        block[field] = pick(block, str, field) + pick(delta, str, field)
    elif kind == "signature_delta":
        block["signature"] = pick(delta, str, "signature")
    elif kind == "input_json_delta":
        inputs[index] = inputs.get(index, "") + pick(delta, str, "partial_json")


def _parsed(whole: str) -> object:
    try:
        return json.loads(whole) if whole else {}
    except ValueError:
        fail(f"the joined partial_json is not JSON: {quote(whole)}")
