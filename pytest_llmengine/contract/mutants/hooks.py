"""Hooks for mutants: each changes one part of a body, or the events or bytes of a stream."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from llmengine.mock.behaviour import JSON, Behaviour, RawReply, ReceivedRequest
from pytest_llmengine.contract.mutants.registry import mutant
from pytest_llmengine.contract.mutations import Mutation, Mutator
from pytest_llmengine.contract.surface import Place

Hook = Callable[[JSON, ReceivedRequest], JSON]
EventsHook = Callable[[list[JSON], ReceivedRequest], list[JSON]]
WireHook = Callable[[RawReply, ReceivedRequest], RawReply]


def rule_off(check: str) -> None:
    """Register the mock without its own rule for the check as a mutant of that check."""
    mutant(check, Behaviour(f"without the rule {check}", without_rules=frozenset({check})))


def without(*path: str | int) -> Hook:
    """A hook that removes the field at the path from a body, if it exists."""

    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        parent = _at(body, *path[:-1])
        if isinstance(parent, dict):
            parent.pop(path[-1], None)
        return body

    return hook


def put(value: Any, *path: str | int) -> Hook:
    """A hook that puts a value at the path, if its parent exists."""

    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        parent = _at(body, *path[:-1])
        if parent is not None:
            parent[path[-1]] = value
        return body

    return hook


def ignoring(field: str) -> Hook:
    """A request hook for a server that ignores a parameter."""
    return without(field)


def taking(value: Any, instead_of: Any, field: str) -> Hook:
    """A request hook for a server that mistakes one value of a parameter for another."""

    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        if field in body and body[field] == instead_of:
            body[field] = value
        return body

    return hook


def refusing(when: Callable[[JSON], object]) -> Hook:
    """A request hook for a server that rejects some valid requests."""

    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        return {**body, "messages": []} if when(body) else body

    return hook


def answering(status: int, body: Any, *, when: Callable[[ReceivedRequest], object]) -> WireHook:
    """A wire hook that answers some calls with this status and JSON body."""

    def hook(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if not when(call):
            return reply
        headers = {**reply.headers, "content-type": "application/json"}
        return RawReply(status, headers, [json.dumps(body).encode()])

    return hook


def _at(body: Any, *path: str | int) -> Any:
    """The value at the path, or None."""
    for step in path:
        if isinstance(step, int):
            body = body[step] if isinstance(body, list) and len(body) > step else None
        else:
            body = body.get(step) if isinstance(body, dict) else None
    return body


def forgets(*fields: str) -> Hook:
    """A ``request`` hook for a server that silently ignores these fields."""

    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        return {key: value for key, value in body.items() if key not in fields}

    return hook


def body(edit: Callable[[JSON], object]) -> Hook:
    """A hook that edits a request or a reply in place."""

    def hook(value: JSON, call: ReceivedRequest) -> JSON:
        edit(value)
        return value

    return hook


def answer(edit: Callable[[JSON], object]) -> Hook:
    """A ``reply`` hook that edits each choice of a chat completion in place."""
    return body(lambda value: [edit(choice) for choice in value["choices"]])


def first_call(edit: Callable[[JSON], object]) -> Hook:
    """A ``reply`` hook that edits the first tool call in place, if there is one."""
    return answer(lambda choice: [edit(c) for c in choice["message"].get("tool_calls", [])[:1]])


def chunks(edit: Callable[[JSON], object]) -> EventsHook:
    """An ``events`` hook that edits each event in place."""

    def hook(events: list[JSON], call: ReceivedRequest) -> list[JSON]:
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
    """An ``events`` hook whose function does not get the call."""

    def hook(found: list[JSON], call: ReceivedRequest) -> list[JSON]:
        return edit(found)

    return hook


def sent(edit: Callable[[list[bytes]], list[bytes]]) -> WireHook:
    """A ``wire`` hook that edits the chunks of a stream."""

    def hook(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if reply.headers["content-type"].startswith("text/event-stream"):
            reply.chunks = edit(reply.chunks)
        return reply

    return hook


def replaced(old: bytes, new: bytes) -> WireHook:
    """A ``wire`` hook that replaces some bytes with others."""
    return sent(lambda found: [chunk.replace(old, new) for chunk in found])


def crashes_on(part: bytes) -> WireHook:
    """A ``wire`` hook for a server that answers 500 to requests that contain these bytes."""

    def hook(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if part in call.body:
            reply.status = 500
        return reply

    return hook


def adding(number: int, *path: str | int) -> Hook:
    """A hook that adds to the number at the path, if there is one."""

    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        own = _at(body, *path)
        return body if own is None else put(own + number, *path)(body, call)

    return hook


def anothers(*path: str | int) -> Hook:
    """A ``reply`` hook that puts in this part of the last answer that had it."""
    last: list[Any] = []

    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        if own := copy.deepcopy(_at(body, *path)):
            put(last.pop() if last else own, *path)(body, call)
            last.append(own)
        return body

    return hook


def mixing_up(*, after: int) -> Hook:
    """A ``reply`` hook that, after so many answers, gives each caller the previous answer."""
    served: list[JSON] = []

    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        served.append(body)
        return served[-2] if len(served) > after else body

    return hook


def dropping(field: str, *, stream: bool) -> Hook:
    """A ``request`` hook for a server that drops a field, such as ``text.format``, in one mode."""
    drop = without(*field.split("."))

    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        return drop(body, call) if (body.get("stream") is True) is stream else body

    return hook


def dropping_each(check: str, field: str) -> None:
    """Register two mutants: a field is dropped from whole requests, and from streamed ones."""
    for stream in (False, True):
        name = f"{field} dropped in {'streams' if stream else 'whole answers'}"
        mutant(check, Behaviour(name, request=dropping(field, stream=stream)))


def in_streams(hook: Hook) -> Hook:
    """A ``request`` hook for a server whose streams alone break a rule."""

    def in_stream(value: JSON, call: ReceivedRequest) -> JSON:
        return hook(value, call) if value.get("stream") else value

    return in_stream


def messages(edit: Callable[[list[JSON]], list[JSON]]) -> Hook:
    """A ``request`` hook that edits the messages of a chat."""

    def hook(value: JSON, call: ReceivedRequest) -> JSON:
        return {**value, "messages": edit(value["messages"])} if "messages" in value else value

    return hook


def contents(edit: Callable[[str], str]) -> Hook:
    """A ``request`` hook that edits the text of each message."""
    return messages(lambda found: [m | {"content": edit(str(m["content"]))} for m in found])


def mutated(kind: str, part: str, path: str, operator: str) -> Behaviour:
    """The reference with one mutation; the path is written as ``choices.[].index``."""
    mutator = Mutator()
    mutation = Mutation(Place(kind, part, tuple(filter(None, path.split(".")))), operator)
    mutator.use(mutation)
    return replace(mutator.behaviour, name=str(mutation))
