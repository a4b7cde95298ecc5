"""Anthropic's Messages API: create a message, whole or streamed, and count its tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmengine.mock.bodies import chat_request
from llmengine.mock.json_fields import mapping
from llmengine.mock.messages_body import messages_as_chat
from llmengine.mock.model import generate
from llmengine.mock.text import tokenize
from llmengine.mock.usage import TokenCounts
from llmengine.mock.wire import ApiError, Framing, JSONAnswer, StreamAnswer, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock.behaviour import JSON, ReceivedRequest
    from llmengine.mock.json_fields import Body
    from llmengine.mock.model import GeneratedAnswer, GeneratedToolCall
    from llmengine.mock.service import Service
    from llmengine.mock.wire import MockAnswer


# The version of the API that removed the parameters of sampling; dates can be compared as texts.
_WITHOUT_SAMPLING = "2026-10-21"
_SAMPLING = ("temperature", "top_p", "top_k")


def check_version(call: ReceivedRequest, service: Service) -> None:
    """Raise ApiError for a request without the header of the API's version, or against it."""
    version = call.headers.get("anthropic-version", "")
    if "messages.version" in service.behaviour.without_rules:
        return
    if not version:
        raise ApiError("anthropic-version: header is required")
    removed = [name for name in _SAMPLING if name in mapping(call.json)]
    if removed and version >= _WITHOUT_SAMPLING:
        raise ApiError(f"{removed[0]}: Extra inputs are not permitted", param=removed[0])


def create_message(body: Body, service: Service) -> MockAnswer:
    """Answer a request."""
    request = service.with_token_limit(chat_request(messages_as_chat(body)))
    answer = generate(request, service.next_reply())[0]
    counts = TokenCounts.of(request.prompt_tokens, [answer])
    message = {
        "id": new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": service.model_name(body),
        "content": _blocks(answer),
        "stop_reason": _stop_reason(answer),
        "stop_sequence": answer.stopped_by,
        "usage": {
            "input_tokens": counts.prompt_tokens - counts.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": counts.cached_tokens,
            "output_tokens": counts.completion_tokens,
            "service_tier": "standard",
        },
    }
    if body.get("stream") is True:
        return StreamAnswer(list(_events(message)), Framing.NAMED_SSE)
    return JSONAnswer(message)


def count_tokens(body: Body, service: Service) -> MockAnswer:
    """Count the tokens of a prompt."""
    return JSONAnswer({"input_tokens": chat_request(messages_as_chat(body)).prompt_tokens})


# Anthropic's word for each of OpenAI's reasons; any other scripted reason is sent as it is.
_STOP_REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def _stop_reason(answer: GeneratedAnswer) -> str:
    if answer.finish != "stop":
        return _STOP_REASONS.get(answer.finish, answer.finish)
    if answer.refusal is not None:
        return "refusal"
    if answer.stopped_by is not None:
        return "stop_sequence"
    return "tool_use" if answer.calls else "end_turn"


def _blocks(answer: GeneratedAnswer) -> list[JSON]:
    """The content blocks in order: the reasoning, the text and the calls."""
    blocks: list[JSON] = []
    if answer.reasoning:
        thought = "".join(answer.reasoning)
        blocks.append({"type": "thinking", "thinking": thought, "signature": new_id("sig_")})
    if said := answer.refusal or answer.text:
        blocks.append({"type": "text", "text": said})
    return [*blocks, *(_tool_use(call) for call in answer.calls)]


def _tool_use(call: GeneratedToolCall) -> JSON:
    try:
        arguments = json.loads("".join(call.arguments))
    except ValueError:  # the token limit cut them
        arguments = {}
    return {"type": "tool_use", "id": new_id("toolu_"), "name": call.name, "input": arguments}


# ---- events of a stream

# By the type of a block: its text field, the type of the deltas of that field, and their field.
_DELTAS = {
    "text": ("text", "text_delta", "text"),
    "thinking": ("thinking", "thinking_delta", "thinking"),
    "tool_use": ("input", "input_json_delta", "partial_json"),
}


def _events(message: JSON) -> Iterator[JSON]:
    """All events of a message, with one ping."""
    usage = message["usage"]
    begun: JSON = {"content": [], "stop_reason": None, "stop_sequence": None}
    yield {
        "type": "message_start",
        "message": {**message, **begun, "usage": {**usage, "output_tokens": 0}},
    }
    yield {"type": "ping"}
    for index, block in enumerate(message["content"]):
        for event in _block_events(block):
            yield {**event, "index": index}
    ended = {key: message[key] for key in ("stop_reason", "stop_sequence")}
    counts = {name: count for name, count in usage.items() if name != "service_tier"}
    yield {"type": "message_delta", "delta": ended, "usage": counts}
    yield {"type": "message_stop"}


def _block_events(block: JSON) -> Iterator[JSON]:
    """The events of one block, from the empty block to its end."""
    field, kind, delta_field = _DELTAS[block["type"]]
    value = block[field]
    whole = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    empty: JSON = {field: "" if isinstance(value, str) else {}}
    if "signature" in block:
        empty["signature"] = ""
    yield {"type": "content_block_start", "content_block": {**block, **empty}}
    for token in tokenize(whole):
        yield {"type": "content_block_delta", "delta": {"type": kind, delta_field: token}}
    if "signature" in block:
        signature = {"type": "signature_delta", "signature": block["signature"]}
        yield {"type": "content_block_delta", "delta": signature}
    yield {"type": "content_block_stop"}
