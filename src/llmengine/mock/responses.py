"""The responses API: create (whole and streamed), retrieve and delete."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING

from llmengine.mock.bodies import as_chat, chat_ask, messages
from llmengine.mock.chat import chat_entries
from llmengine.mock.json_fields import integer, items, mapping, number, text
from llmengine.mock.model import answer
from llmengine.mock.text import tokenize
from llmengine.mock.wire import ApiError, Framing, Stream, Whole, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.model import GenerationRequest, Said, SaidCall
    from llmengine.mock.service import Service
    from llmengine.mock.wire import MockAnswer


def output_items(said: Said, top: int | None) -> list[JSON]:
    """The output items in order: reasoning, function calls and the message.

    The item that the token limit cut is marked as incomplete.
    """
    found = [_reasoning(said)] if said.reasoning else []
    found += [_call(c) for c in said.calls]
    if said.tokens or said.refusal is not None or not said.calls:
        found.append(_message(said, top))
    if said.finish == "length":
        found[-1]["status"] = "incomplete"
    return found


def _reasoning(said: Said) -> JSON:
    thought = {"type": "reasoning_text", "text": "".join(said.reasoning)}
    return {"id": new_id("rs_"), "type": "reasoning", "summary": [], "content": [thought]}


def _call(call: SaidCall) -> JSON:
    return {
        "id": new_id("fc_"),
        "type": "function_call",
        "status": "completed",
        "call_id": new_id("call_"),
        "name": call.name,
        "arguments": "".join(call.arguments),
    }


def _message(said: Said, top: int | None) -> JSON:
    if said.refusal is not None:
        part: JSON = {"type": "refusal", "refusal": said.refusal}
    else:
        entries = [] if top is None else chat_entries(said.tokens, top)
        part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": entries}
    return {
        "id": new_id("msg_"),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }


def events(response: JSON) -> list[JSON]:
    """All events of a response, numbered from 0: ``response.created`` to the terminal event."""
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    begun["incomplete_details"] = None
    found: list[JSON] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for place, item in enumerate(response["output"]):
        found += _item_events(place, item)
    found.append({"type": f"response.{response['status']}", "response": response})
    numbers = count()
    return [{**e, "sequence_number": next(numbers)} for e in found]


def _item_events(place: int, item: JSON) -> Iterator[JSON]:
    """The events of one item, from the empty item to the complete one."""
    where = {"output_index": place}
    yield {"type": "response.output_item.added", **where, "item": _empty(item)}
    inside = {"item_id": item["id"], **where}
    if item["type"] == "function_call":
        yield from _arguments(inside, item["arguments"])
    for index, part in enumerate(item.get("content", ())):
        yield from _part_events({**inside, "content_index": index}, part)
    yield {"type": "response.output_item.done", **where, "item": item}


def _empty(item: JSON) -> JSON:
    begun = {**item, "status": "in_progress"}
    return begun | {k: v for k, v in {"content": [], "arguments": ""}.items() if k in item}


def _arguments(inside: JSON, arguments: str) -> Iterator[JSON]:
    for token in tokenize(arguments):
        yield {"type": "response.function_call_arguments.delta", **inside, "delta": token}
    yield {"type": "response.function_call_arguments.done", **inside, "arguments": arguments}


def _part_events(inside: JSON, part: JSON) -> Iterator[JSON]:
    kind = part["type"]
    field = "refusal" if kind == "refusal" else "text"
    logprobs: JSON = {"logprobs": []} if kind == "output_text" else {}
    yield {
        "type": "response.content_part.added",
        **inside,
        "part": {**part, field: "", **logprobs},
    }
    entries = iter(part.get("logprobs", ()))
    for token in tokenize(part[field]):
        entry = {"logprobs": [e for e in (next(entries, None),) if e]} if logprobs else {}
        yield {"type": f"response.{kind}.delta", **inside, "delta": token, **entry}
    whole = {"logprobs": part["logprobs"]} if logprobs else {}
    yield {"type": f"response.{kind}.done", **inside, field: part[field], **whole}
    yield {"type": "response.content_part.done", **inside, "part": part}


def create_response(body: JSON, service: Service) -> MockAnswer:
    """Answer a request and store the response unless ``store`` is false."""
    history = _history(body, service)
    ask = service.fitted(chat_ask(as_chat(body, history)))
    said = answer(ask, service.next_reply())[0]
    output = output_items(said, _top_logprobs(body))
    response = _response(body, service, ask, said, output)
    if body.get("store") is not False:
        said_before = [*history, *messages(body.get("input"))]
        service.responses[response["id"]] = (response, [*said_before, *messages(output)])
    if body.get("stream") is True:
        return Stream(events(response), Framing.NAMED_SSE)
    return Whole(response)


def _history(body: JSON, service: Service) -> list[JSON]:
    previous = text(body.get("previous_response_id"))
    if not previous:
        return []
    if previous in service.responses:
        return list(service.responses[previous][1])
    if "resp.previous_response_id.unknown" in service.behaviour.without_rules:
        return []
    message = f"Previous response with id '{previous}' not found."
    raise ApiError(message, param="previous_response_id", code="previous_response_not_found")


def retrieve_response(body: JSON, service: Service, response_id: str) -> MockAnswer:
    """Return a stored response."""
    return Whole(_stored(response_id, service))


def delete_response(body: JSON, service: Service, response_id: str) -> MockAnswer:
    """Delete a stored response."""
    _stored(response_id, service)
    service.responses.pop(response_id, None)
    return Whole({"id": response_id, "object": "response", "deleted": True})


def _stored(response_id: str, service: Service) -> JSON:
    if response_id in service.responses:
        found: JSON = service.responses[response_id][0]
        return found
    if "resp.get.unknown" in service.behaviour.without_rules:
        return {}
    message = f"Response with id '{response_id}' not found."
    raise ApiError(message, status=404, param="id")


def _top_logprobs(body: JSON) -> int | None:
    if "message.output_text.logprobs" not in items(body.get("include")):
        return None
    return max(0, integer(body.get("top_logprobs")) or 0)


def _response(
    body: JSON, service: Service, ask: GenerationRequest, said: Said, output: list[JSON]
) -> JSON:
    """A response with all its keys, including those that repeat the request."""
    cut = said.finish == "length"
    reasoning = mapping(body.get("reasoning"))
    wanted = mapping(body.get("text"))
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
        "model": service.echo(body),
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": "default",
        "store": body.get("store") is not False,
        "temperature": number(body.get("temperature"), 1.0),
        "text": {
            "format": wanted.get("format") or {"type": "text"},
            "verbosity": wanted.get("verbosity") or "medium",
        },
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": items(body.get("tools")),
        "top_logprobs": integer(body.get("top_logprobs")) or 0,
        "top_p": number(body.get("top_p"), 1.0),
        "truncation": body.get("truncation") or "disabled",
        "usage": {
            "input_tokens": ask.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": said.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": len(said.reasoning)},
            "total_tokens": ask.prompt_tokens + said.completion_tokens,
        },
        "user": body.get("user"),
        "metadata": mapping(body.get("metadata")),
    }
