"""Hooks that edit each part of a body, or the events and bytes of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock.behaviour import JSON, Call, RawReply
    from pytest_llmengine.contract.mutants.changes import EventsHook, Hook, WireHook


def forgets(*fields: str) -> Hook:
    """A ``request`` hook of a server that ignores these fields without a word."""

    def hook(body: JSON, call: Call) -> JSON:
        return {key: value for key, value in body.items() if key not in fields}

    return hook


def body(edit: Callable[[JSON], object]) -> Hook:
    """A hook that edits a request or a reply in place."""

    def hook(value: JSON, call: Call) -> JSON:
        edit(value)
        return value

    return hook


def answer(edit: Callable[[JSON], object]) -> Hook:
    """A ``reply`` hook that edits each choice of a chat completion in place."""
    return body(lambda value: [edit(choice) for choice in value["choices"]])


def first_call(edit: Callable[[JSON], object]) -> Hook:
    """A ``reply`` hook that edits the first tool call in place, where there is one."""
    return answer(lambda choice: [edit(c) for c in choice["message"].get("tool_calls", [])[:1]])


def chunks(edit: Callable[[JSON], object]) -> EventsHook:
    """An ``events`` hook that edits each event in place."""

    def hook(events: list[JSON], call: Call) -> list[JSON]:
        for event in events:
            edit(event)
        return events

    return hook


def choices(edit: Callable[[JSON], object]) -> EventsHook:
    """An ``events`` hook that edits each choice of each chunk in place."""
    return chunks(lambda chunk: [edit(choice) for choice in chunk["choices"]])


def fragments(edit: Callable[[JSON], object]) -> EventsHook:
    """An ``events`` hook that edits each fragment of a tool call in place."""
    return choices(lambda choice: [edit(f) for f in choice["delta"].get("tool_calls", [])])


def events(edit: Callable[[list[JSON]], list[JSON]]) -> EventsHook:
    """An ``events`` hook that needs no call."""

    def hook(found: list[JSON], call: Call) -> list[JSON]:
        return edit(found)

    return hook


def sent(edit: Callable[[list[bytes]], list[bytes]]) -> WireHook:
    """A ``wire`` hook on the chunks of a stream."""

    def hook(reply: RawReply, call: Call) -> RawReply:
        if reply.headers["content-type"].startswith("text/event-stream"):
            reply.chunks = edit(reply.chunks)
        return reply

    return hook


def replaced(old: bytes, new: bytes) -> WireHook:
    """A ``wire`` hook that writes some bytes in place of others."""
    return sent(lambda found: [chunk.replace(old, new) for chunk in found])


def crashes_on(part: bytes) -> WireHook:
    """A ``wire`` hook of a server that answers 500 to a request with these bytes in it."""

    def hook(reply: RawReply, call: Call) -> RawReply:
        if part in call.body:
            reply.status = 500
        return reply

    return hook


def mixing_up(*, after: int) -> Hook:
    """A ``reply`` hook that gives each caller the answer before, once so many were served."""
    served: list[JSON] = []

    def hook(body: JSON, call: Call) -> JSON:
        served.append(body)
        return served[-2] if len(served) > after else body

    return hook
