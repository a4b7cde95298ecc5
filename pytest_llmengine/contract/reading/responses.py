"""The parts of a response of /responses and of its event stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.outcomes import fail
from pytest_llmengine.contract.reading.fields import objects, pick

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

Events = list[dict[str, Any]]

LONG = "Write a long story about the sea."  # sixteen tokens do not hold it
TERMINAL = ("response.completed", "response.incomplete", "response.failed")


def respond(target: Target, given: object = "Say hello.", **params: Any) -> dict[str, Any]:
    """A response; a clear refusal ends the check as refused."""
    return target.post("/responses", _body(target, given, params)).success_or_refused()


def stream_response(target: Target, given: object = "Say hello.", **params: Any) -> Events:
    """The events of a streamed response; a clear refusal ends the check as refused."""
    body = _body(target, given, {"stream": True, **params})
    events = target.post("/responses", body).objects_or_refused()
    for event in events:
        pick(event, str, "type")
    return events


def items(body: dict[str, Any], kind: str) -> Events:
    """The output items of one type, such as ``message`` or ``function_call``."""
    return [item for item in objects(body, "output") if item.get("type") == kind]


def output_text(body: dict[str, Any]) -> str:
    """The text of the output messages, joined."""
    parts = [part for item in items(body, "message") for part in objects(item, "content")]
    return "".join(pick(p, str, "text") for p in parts if p.get("type") == "output_text")


def of_type(events: Events, *types: str) -> Events:
    """The events of these types; none at all fails the check."""
    found = [event for event in events if event["type"] in types]
    if not found:
        seen = ", ".join(dict.fromkeys(str(event["type"]) for event in events))
        fail(f"no event of type {' or '.join(types)}; there are {seen}")
    return found


def _body(target: Target, given: object, params: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": target.model,
        "input": given,
        "temperature": 0,
        "max_output_tokens": 16,
    } | params
