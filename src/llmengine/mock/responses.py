"""The responses API: create (whole and streamed), retrieve and delete."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llmengine.mock.chat_body import chat_ask
from llmengine.mock.errors import ApiError
from llmengine.mock.generation import answer
from llmengine.mock.reading import integer, items, mapping, number, text
from llmengine.mock.replies import Framing, Stream, Whole, new_id
from llmengine.mock.responses_body import as_chat, messages
from llmengine.mock.responses_events import events
from llmengine.mock.responses_output import output_items

if TYPE_CHECKING:
    from llmengine.mock.ask import Ask
    from llmengine.mock.behaviour import JSON
    from llmengine.mock.generation import Said
    from llmengine.mock.replies import Answer
    from llmengine.mock.service import Service


def create_response(body: JSON, service: Service) -> Answer:
    """Answer, and store the response unless ``store`` is false."""
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


def retrieve_response(body: JSON, service: Service, response_id: str) -> Answer:
    """A stored response."""
    return Whole(_stored(response_id, service))


def delete_response(body: JSON, service: Service, response_id: str) -> Answer:
    """Forget a stored response."""
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


def _response(body: JSON, service: Service, ask: Ask, said: Said, output: list[JSON]) -> JSON:
    """Every key of a response, with what the request asked for said back."""
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
