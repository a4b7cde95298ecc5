"""The responses API: create a response, whole or streamed, retrieve it and delete it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llmengine.mock.bodies import chat_request, input_messages, responses_as_chat
from llmengine.mock.chat import logprob_entries
from llmengine.mock.json_fields import integer, items, mapping, number, text
from llmengine.mock.model import generate
from llmengine.mock.service import StoredResponse
from llmengine.mock.text import tokenize
from llmengine.mock.wire import ApiError, Framing, JSONAnswer, StreamAnswer, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.json_fields import Body
    from llmengine.mock.model import GeneratedAnswer, GeneratedToolCall, GenerationRequest
    from llmengine.mock.service import Service
    from llmengine.mock.wire import MockAnswer


def create_response(body: Body, service: Service) -> MockAnswer:
    """Answer a request and store the response unless ``store`` is false."""
    history = _history(body, service)
    request = service.with_token_limit(chat_request(responses_as_chat(body, history)))
    answer = generate(request, service.next_reply())[0]
    response = _response(body, service, request, answer)
    if body.get("store") is not False:
        output = input_messages(response["output"])
        conversation = [*history, *input_messages(body.get("input")), *output]
        service.responses[response["id"]] = StoredResponse(response, conversation)
    if body.get("stream") is True:
        return StreamAnswer(events(response), Framing.NAMED_SSE)
    return JSONAnswer(response)


def _history(body: Body, service: Service) -> list[Body]:
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


def retrieve_response(body: Body, service: Service, response_id: str) -> MockAnswer:
    """Return a stored response."""
    return JSONAnswer(_stored(response_id, service))


def delete_response(body: Body, service: Service, response_id: str) -> MockAnswer:
    """Delete a stored response."""
    _stored(response_id, service)
    service.responses.pop(response_id, None)
    return JSONAnswer({"id": response_id, "object": "response", "deleted": True})


def _stored(response_id: str, service: Service) -> JSON:
    if response_id in service.responses:
        return service.responses[response_id].body
    if "resp.get.unknown" in service.behaviour.without_rules:
        return {}
    message = f"Response with id '{response_id}' not found."
    raise ApiError(message, status=404, param="id")


def _top_logprobs(body: Body) -> int | None:
    if "message.output_text.logprobs" not in items(body.get("include")):
        return None
    return max(0, integer(body.get("top_logprobs")) or 0)


def _response(
    body: Body, service: Service, request: GenerationRequest, answer: GeneratedAnswer
) -> JSON:
    """A response with all its keys, including those that repeat the request."""
    cut = answer.finish == "length"
    reasoning = mapping(body.get("reasoning"))
    text_options = mapping(body.get("text"))
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "incomplete" if cut else "completed",
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "model": service.model_name(body),
        "output": output_items(answer, _top_logprobs(body)),
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": "default",
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
            "input_tokens": request.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": answer.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": len(answer.reasoning)},
            "total_tokens": request.prompt_tokens + answer.completion_tokens,
        },
        "user": body.get("user"),
        "metadata": mapping(body.get("metadata")),
    }


# ---- output items


def output_items(answer: GeneratedAnswer, top: int | None) -> list[JSON]:
    """The output items in order: reasoning, function calls and the message.

    The item that the token limit cut is marked as incomplete.
    """
    output = [_reasoning(answer)] if answer.reasoning else []
    output += [_call(c) for c in answer.calls]
    if answer.tokens or answer.refusal is not None or not answer.calls:
        output.append(_message(answer, top))
    if answer.finish == "length":
        output[-1]["status"] = "incomplete"
    return output


def _reasoning(answer: GeneratedAnswer) -> JSON:
    thought = {"type": "reasoning_text", "text": "".join(answer.reasoning)}
    return {"id": new_id("rs_"), "type": "reasoning", "summary": [], "content": [thought]}


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
        entries = [] if top is None else logprob_entries(answer.tokens, top)
        part = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": entries}
    return {
        "id": new_id("msg_"),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }


# ---- events of a stream


def events(response: JSON) -> list[JSON]:
    """All events of a response, numbered from 0, from ``response.created`` to the last one."""
    started = {**response, "status": "in_progress", "output": [], "usage": None}
    started["incomplete_details"] = None
    found: list[JSON] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
    ]
    for index, item in enumerate(response["output"]):
        found += _item_events(index, item)
    found.append({"type": f"response.{response['status']}", "response": response})
    return [{**event, "sequence_number": number} for number, event in enumerate(found)]


def _item_events(index: int, item: JSON) -> Iterator[JSON]:
    """The events of one item, from the empty item to the complete one."""
    place = {"output_index": index}
    yield {"type": "response.output_item.added", **place, "item": _empty(item)}
    place_of_part = {"item_id": item["id"], **place}
    if item["type"] == "function_call":
        yield from _arguments_events(place_of_part, item["arguments"])
    for content_index, part in enumerate(item.get("content", ())):
        yield from _part_events({**place_of_part, "content_index": content_index}, part)
    yield {"type": "response.output_item.done", **place, "item": item}


def _empty(item: JSON) -> JSON:
    started = {**item, "status": "in_progress"}
    return started | {k: v for k, v in {"content": [], "arguments": ""}.items() if k in item}


def _arguments_events(place: JSON, arguments: str) -> Iterator[JSON]:
    for token in tokenize(arguments):
        yield {"type": "response.function_call_arguments.delta", **place, "delta": token}
    yield {"type": "response.function_call_arguments.done", **place, "arguments": arguments}


def _part_events(place: JSON, part: JSON) -> Iterator[JSON]:
    kind = part["type"]
    field = "refusal" if kind == "refusal" else "text"
    logprobs: JSON = {"logprobs": []} if kind == "output_text" else {}
    yield {
        "type": "response.content_part.added",
        **place,
        "part": {**part, field: "", **logprobs},
    }
    entries = iter(part.get("logprobs", ()))
    for token in tokenize(part[field]):
        entry = {"logprobs": [e for e in (next(entries, None),) if e]} if logprobs else {}
        yield {"type": f"response.{kind}.delta", **place, "delta": token, **entry}
    whole = {"logprobs": part["logprobs"]} if logprobs else {}
    yield {"type": f"response.{kind}.done", **place, field: part[field], **whole}
    yield {"type": "response.content_part.done", **place, "part": part}
