"""The responses API: create, retrieve, cancel and delete responses, and keep conversations."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from hashlib import shake_256
from typing import TYPE_CHECKING

from llmengine.mock.bodies import chat_request, input_messages, responses_as_chat
from llmengine.mock.json_fields import integer, items, mapping, number, text
from llmengine.mock.logprobs import answer_logprobs
from llmengine.mock.model import generate
from llmengine.mock.response_events import events
from llmengine.mock.response_store import StoredConversation, StoredResponse
from llmengine.mock.rules import context_problem
from llmengine.mock.usage import TokenCounts
from llmengine.mock.wire import ApiError, Framing, JSONAnswer, StreamAnswer, new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.json_fields import Body
    from llmengine.mock.model import GeneratedAnswer, GeneratedToolCall, GenerationRequest
    from llmengine.mock.service import Service
    from llmengine.mock.wire import MockAnswer


def create_response(body: Body, service: Service) -> MockAnswer:
    """Answer a request and store the response unless ``store`` is false."""
    conversation = _conversation(body, service)
    history = conversation.messages if conversation else _previous(body, service)
    body = {**body, "input": _without_references(body.get("input"), service)}
    request = _request(body, history, service)
    answer = generate(request, service.next_reply())[0]
    response = _response(body, service, request, answer)
    messages = [*input_messages(body.get("input")), *input_messages(response["output"])]
    streamed = body.get("stream") is True
    stored = StoredResponse(
        response, _input_items(body.get("input")), [*history, *messages], streamed=streamed
    )
    if conversation:
        conversation.messages += messages
    if body.get("store") is not False:
        service.responses[response["id"]] = stored
    if streamed:
        return StreamAnswer(_events(response, body), Framing.NAMED_SSE)
    if body.get("background") is True:
        stored.waiting = ["queued", "in_progress"]
    return JSONAnswer(stored.current)


def _events(response: JSON, body: Body) -> list[JSON]:
    obfuscated = mapping(body.get("stream_options")).get("include_obfuscation") is True
    return events(response, obfuscated=obfuscated)


def _request(body: Body, history: Sequence[Body], service: Service) -> GenerationRequest:
    """The request to the model; with ``truncation`` auto, the first messages may be left out."""
    messages = [*history, *input_messages(body.get("input"))]
    while True:
        request = chat_request(responses_as_chat(body, messages))
        problem = context_problem(
            request.prompt_tokens, request.max_tokens, service.limits, "input"
        )
        if problem is None or "err.context_overflow" in service.behaviour.without_rules:
            return service.with_token_limit(request)
        if body.get("truncation") != "auto" or len(messages) <= 1:
            raise ApiError(problem.message, param=problem.param, code=problem.code)
        messages = messages[max(1, len(messages) // 8) :]


def _previous(body: Body, service: Service) -> list[Body]:
    """The conversation of the previous response that the request names."""
    previous = text(body.get("previous_response_id"))
    if not previous:
        return []
    if previous in service.responses:
        return service.responses[previous].conversation
    if "resp.previous_response_id.unknown" in service.behaviour.without_rules:
        return []
    message = f"Previous response with id '{previous}' not found."
    raise ApiError(message, param="previous_response_id", code="previous_response_not_found")


# ---- stored responses


def retrieve_response(query: Body, service: Service, response_id: str) -> MockAnswer:
    """Return a stored response, or its events again; one in background goes on to its next state.

    Only the events of a response that was streamed in background can be read again.
    """
    stored = _stored(response_id, service)
    if stored is None:
        return JSONAnswer({})
    if query.get("stream") == "true":
        if not (stored.streamed and stored.body["background"]):
            raise ApiError("This response was not streamed in background.", param="stream")
        first = _number(query, "starting_after", default=-1) + 1
        return StreamAnswer(events(stored.body)[first:], Framing.NAMED_SSE)
    stored.advance()
    return JSONAnswer(stored.current)


def list_input_items(query: Body, service: Service, response_id: str) -> MockAnswer:
    """List the input items of a stored response, by default the last 20 in reverse order."""
    stored = _stored(response_id, service)
    found = list(stored.input) if stored else []
    if query.get("order") != "asc":
        found.reverse()
    ids = [item["id"] for item in found]
    after = text(query.get("after"))
    if after in ids:
        found = found[ids.index(after) + 1 :]
    page = found[: _number(query, "limit", default=20)]
    return JSONAnswer(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else "",
            "last_id": page[-1]["id"] if page else "",
            "has_more": len(page) < len(found),
        }
    )


def _number(query: Body, name: str, *, default: int) -> int:
    """A whole number in the query, or the default for anything else."""
    value = text(query.get(name))
    return int(value) if re.fullmatch("[0-9]{1,9}", value) else default


def cancel_response(body: Body, service: Service, response_id: str) -> MockAnswer:
    """Cancel a response in background; one that has ended stays as it is."""
    stored = _stored(response_id, service)
    if stored is None:
        return JSONAnswer({})
    if not stored.body["background"]:
        raise ApiError("Cannot cancel a synchronous response.")
    stored.cancel()
    return JSONAnswer(stored.current)


def delete_response(body: Body, service: Service, response_id: str) -> MockAnswer:
    """Delete a stored response."""
    _stored(response_id, service)
    service.responses.pop(response_id, None)
    return JSONAnswer({"id": response_id, "object": "response", "deleted": True})


def count_input_tokens(body: Body, service: Service) -> MockAnswer:
    """Count the tokens of a request without an answer to it."""
    conversation = _conversation(body, service)
    history = conversation.messages if conversation else _previous(body, service)
    given = _without_references(body.get("input"), service)
    messages = [*history, *input_messages(given)]
    request = chat_request(responses_as_chat(body, messages))
    return JSONAnswer({"object": "response.input_tokens", "input_tokens": request.prompt_tokens})


def _stored(response_id: str, service: Service) -> StoredResponse | None:
    """The stored response; None if it is unknown and the rule against that is switched off."""
    if response_id in service.responses:
        return service.responses[response_id]
    if "resp.get.unknown" in service.behaviour.without_rules:
        return None
    message = f"Response with id '{response_id}' not found."
    raise ApiError(message, status=404, param="id")


# ---- conversations


def create_conversation(body: Body, service: Service) -> MockAnswer:
    """Create a conversation, which responses continue."""
    conversation: JSON = {
        "id": new_id("conv_"),
        "object": "conversation",
        "created_at": int(time.time()),
        "metadata": mapping(body.get("metadata")),
    }
    messages = input_messages(body.get("items"))
    service.conversations[conversation["id"]] = StoredConversation(conversation, messages)
    return JSONAnswer(conversation)


def retrieve_conversation(query: Body, service: Service, conversation_id: str) -> MockAnswer:
    """Return a conversation, without its items."""
    conversation = _known_conversation(conversation_id, service)
    return JSONAnswer(conversation.body if conversation else {})


def _conversation(body: Body, service: Service) -> StoredConversation | None:
    """The conversation that the request names, as an id or as an object with an id."""
    given = body.get("conversation")
    name = text(given) or text(mapping(given).get("id"))
    return _known_conversation(name, service) if name else None


def _known_conversation(name: str, service: Service) -> StoredConversation | None:
    """The conversation; None if it is unknown and the rule against that is switched off."""
    if name in service.conversations:
        return service.conversations[name]
    if "resp.conversation.unknown" in service.behaviour.without_rules:
        return None
    raise ApiError(f"Conversation with id '{name}' not found.", status=404, param="conversation")


# ---- input items


def _without_references(value: object, service: Service) -> object:
    """The input with the stored items in place of the references to them."""
    if not isinstance(value, list):
        return value
    return [_referred(mapping(item), service) for item in value]


def _referred(item: Body, service: Service) -> Body:
    if item.get("type") != "item_reference":
        return item
    for stored in service.responses.values():
        for known in (*stored.input, *items(stored.body["output"])):
            if mapping(known).get("id") == item.get("id"):
                return mapping(known)
    raise ApiError(f"Item with id '{item.get('id')}' not found.", status=404, param="input")


def _input_items(value: object) -> list[JSON]:
    """The input as the items that the API lists, each with an id."""
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    return [_input_item(mapping(item)) for item in items(value)]


def _input_item(item: Body) -> JSON:
    kind = text(item.get("type")) or "message"
    content = item.get("content")
    listed: JSON = {"id": new_id("msg_" if kind == "message" else "item_"), **item, "type": kind}
    if kind == "message":
        listed["status"] = "completed"
    if isinstance(content, str):
        side = "output" if item.get("role") == "assistant" else "input"
        listed["content"] = [{"type": f"{side}_text", "text": content}]
    return listed


# ---- the response


def _top_logprobs(body: Body) -> int | None:
    if "message.output_text.logprobs" not in items(body.get("include")):
        return None
    return max(0, integer(body.get("top_logprobs")) or 0)


# Why a response is incomplete, by OpenAI's reason of a chat completion.
_INCOMPLETE_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


def _response(
    body: Body, service: Service, request: GenerationRequest, answer: GeneratedAnswer
) -> JSON:
    """A response with all its keys, including those that repeat the request."""
    incomplete = _INCOMPLETE_REASONS.get(answer.finish)
    counts = TokenCounts.of(request.prompt_tokens, [answer])
    text_options = mapping(body.get("text"))
    conversation = body.get("conversation")
    tier = body.get("service_tier")
    now = int(time.time())
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": now,
        "completed_at": now,
        "status": "incomplete" if incomplete else "completed",
        "background": body.get("background") is True,
        "conversation": {"id": conversation} if isinstance(conversation, str) else conversation,
        "error": None,
        "incomplete_details": {"reason": incomplete} if incomplete else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "model": service.model_name(body),
        "output": output_items(answer, body),
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "prompt_cache_options": {
            "mode": "implicit",
            "ttl": "30m",
            **mapping(body.get("prompt_cache_options")),
        },
        "prompt_cache_retention": body.get("prompt_cache_retention"),
        "reasoning": {"effort": None, "summary": None, **mapping(body.get("reasoning"))},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": "default" if tier == "auto" else tier,
        "store": body.get("store") is not False,
        "temperature": number(body.get("temperature"), 1.0),
        "text": {
            "format": text_options.get("format") or {"type": "text"},
            "verbosity": text_options.get("verbosity") or "medium",
        },
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": items(body.get("tools")),
        "top_logprobs": integer(body.get("top_logprobs")) or 0,
        "top_p": number(body.get("top_p"), 1.0),
        "truncation": body.get("truncation") or "disabled",
        "usage": {
            "input_tokens": counts.prompt_tokens,
            "input_tokens_details": {
                "cached_tokens": counts.cached_tokens,
                "cache_write_tokens": 0,
            },
            "output_tokens": counts.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
            "total_tokens": counts.total_tokens,
        },
        "user": body.get("user"),
        "metadata": mapping(body.get("metadata")),
    }


def output_items(answer: GeneratedAnswer, body: Body) -> list[JSON]:
    """The output items in order: reasoning, function calls and the message.

    The last item of an incomplete response is marked as incomplete.
    """
    output = [_reasoning(answer.reasoning, body)] if answer.reasoning else []
    output += [_call(c) for c in answer.calls]
    if answer.tokens or answer.refusal is not None or not answer.calls:
        output.append(_message(answer, _top_logprobs(body)))
    if answer.finish in _INCOMPLETE_REASONS:
        output[-1]["status"] = "incomplete"
    return output


def _reasoning(thought: Sequence[str], body: Body) -> JSON:
    whole = "".join(thought)
    item: JSON = {
        "id": new_id("rs_"),
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": whole}],
        "status": "completed",
    }
    if mapping(body.get("reasoning")).get("summary") is not None:
        item["summary"] = [{"type": "summary_text", "text": whole.partition(".")[0] + "."}]
    if "reasoning.encrypted_content" in items(body.get("include")):
        # It stands for the ciphertext, which only a real server could read.
        item["encrypted_content"] = b64encode(shake_256(whole.encode()).digest(96)).decode()
    return item


def _call(call: GeneratedToolCall) -> JSON:
    return {
        "id": new_id("fc_"),
        "type": "function_call",
        "status": "completed",
        "call_id": new_id("call_"),
        "name": call.name,
        "arguments": "".join(call.arguments),
    }


def _message(answer: GeneratedAnswer, top: int | None) -> JSON:
    if answer.refusal is not None:
        part: JSON = {"type": "refusal", "refusal": answer.refusal}
    else:
        entries = [] if top is None else answer_logprobs(answer, top)
        part = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": entries}
    return {
        "id": new_id("msg_"),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }
