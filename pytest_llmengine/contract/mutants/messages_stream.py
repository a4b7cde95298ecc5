"""Mutants of messages.stream; those of the effects of parameters are in messages.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour, RawReply
from pytest_llmengine.contract.mutants.hooks import chunks, events, put, replaced
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock.behaviour import JSON, ReceivedRequest
    from pytest_llmengine.contract.mutants.hooks import EventsHook, Hook


def _of_type(kind: str, edit: Callable[[JSON], object]) -> EventsHook:
    """An ``events`` hook that edits the events of one type."""
    return chunks(lambda event: edit(event) if event["type"] == kind else None)


def _without(kind: str) -> EventsHook:
    return events(lambda found: [event for event in found if event["type"] != kind])


def _in_streams(edit: Callable[[JSON], object]) -> Hook:
    """A ``request`` hook that edits only requests for a stream."""

    def hook(request: JSON, call: ReceivedRequest) -> JSON:
        if request.get("stream"):
            edit(request)
        return request

    return hook


def _shifted(event: JSON) -> None:
    if "index" in event:
        event["index"] += 1


def _one_delta_lost(found: list[JSON]) -> list[JSON]:
    lost = [event for event in found if event["type"] == "content_block_delta"][1]
    return [event for event in found if event is not lost]


def _as_plain_text(reply: RawReply, call: ReceivedRequest) -> RawReply:
    if reply.headers["content-type"].startswith("text/event-stream"):
        reply.headers["content-type"] = "text/plain"
    return reply


def _errors_as_streams(reply: RawReply, call: ReceivedRequest) -> RawReply:
    if reply.status == 400:
        headers = {**reply.headers, "content-type": "text/event-stream"}
        return RawReply(200, headers, [b"event: error\ndata: " + reply.chunks[0] + b"\n\n"])
    return reply


for check, behaviour in (
    ("content_type", Behaviour("plain text", wire=_as_plain_text)),
    ("content_type", Behaviour("no names", wire=replaced(b"event: message_stop\n", b""))),
    ("order", Behaviour("no start", events=_without("message_start"))),
    ("order", Behaviour("no end", events=_without("message_stop"))),
    ("order", Behaviour("ends twice", events=events(lambda f: [*f, f[-1]]))),
    ("order", Behaviour("swapped", events=events(lambda f: [*f[:-2], f[-1], f[-2]]))),
    ("blocks", Behaviour("from 1", events=chunks(_shifted))),
    ("blocks", Behaviour("no end", events=_without("content_block_stop"))),
    ("blocks", Behaviour("no start", events=_without("content_block_start"))),
    (
        "blocks",
        Behaviour(
            "no empty text",
            events=_of_type("content_block_start", lambda e: e["content_block"].pop("text", None)),
        ),
    ),
    (
        "blocks",
        Behaviour(
            "another delta",
            events=_of_type(
                "content_block_delta",
                lambda e: e["delta"].update(type="thinking_delta", thinking=""),
            ),
        ),
    ),
    (
        "start",
        Behaviour(
            "no usage", events=_of_type("message_start", lambda e: e["message"].pop("usage"))
        ),
    ),
    (
        "start",
        Behaviour(
            "ended",
            events=_of_type("message_start", lambda e: e["message"].update(stop_reason="end_turn")),
        ),
    ),
    (
        "start",
        Behaviour(
            "no content",
            events=_of_type("message_start", lambda e: e["message"].update(content=None)),
        ),
    ),
    (
        "usage",
        Behaviour(
            "one more",
            events=_of_type(
                "message_delta",
                lambda e: e["usage"].update(output_tokens=e["usage"]["output_tokens"] + 1),
            ),
        ),
    ),
    ("usage", Behaviour("another prompt", reply=put(1, "usage", "input_tokens"))),
    ("equals_whole", Behaviour("a delta lost", events=events(_one_delta_lost))),
    (
        "equals_whole",
        Behaviour("no system prompt", request=_in_streams(lambda r: r.pop("system", None))),
    ),
    (
        "equals_whole",
        Behaviour(
            "no history", request=_in_streams(lambda r: r.update(messages=r["messages"][-1:]))
        ),
    ),
    ("delta", Behaviour("no usage", events=_of_type("message_delta", lambda e: e.pop("usage")))),
    (
        "delta",
        Behaviour(
            "no stop_sequence",
            events=_of_type("message_delta", lambda e: e["delta"].pop("stop_sequence")),
        ),
    ),
    ("error.before_first_byte", Behaviour("a stream", wire=_errors_as_streams)),
):
    mutant(f"messages.stream.{check}", behaviour)
