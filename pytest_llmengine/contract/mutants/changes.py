"""Hooks that change one thing: the words that mutants are written in."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from llmengine.mock.behaviour import JSON, Behaviour, Call, RawReply
from pytest_llmengine.contract.mutants.registry import mutant

Hook = Callable[[JSON, Call], JSON]
EventsHook = Callable[[list[JSON], Call], list[JSON]]
WireHook = Callable[[RawReply, Call], RawReply]


def rule_off(check: str) -> None:
    """Register the mock without its own rule of that name as a mutant of the check."""
    mutant(check, Behaviour(f"without the rule {check}", without_rules=frozenset({check})))


def without(*path: str | int) -> Hook:
    """A hook that takes the field at the path out of a body, where it is there."""

    def hook(body: JSON, call: Call) -> JSON:
        parent = _at(body, *path[:-1])
        if isinstance(parent, dict):
            parent.pop(path[-1], None)
        return body

    return hook


def put(value: Any, *path: str | int) -> Hook:
    """A hook that puts a value at the path, where what holds it is there."""

    def hook(body: JSON, call: Call) -> JSON:
        parent = _at(body, *path[:-1])
        if parent is not None:
            parent[path[-1]] = value
        return body

    return hook


def ignoring(field: str) -> Hook:
    """A request hook of a server that never looks at a parameter."""
    return without(field)


def taking(value: Any, instead_of: Any, field: str) -> Hook:
    """A request hook of a server that takes one value of a parameter for another."""

    def hook(body: JSON, call: Call) -> JSON:
        if field in body and body[field] == instead_of:
            body[field] = value
        return body

    return hook


def refusing(when: Callable[[JSON], object]) -> Hook:
    """A request hook of a server that rejects good requests of some kind."""

    def hook(body: JSON, call: Call) -> JSON:
        return {**body, "messages": []} if when(body) else body

    return hook


def answering(status: int, body: Any, *, when: Callable[[Call], object]) -> WireHook:
    """A wire hook that answers some calls with this status and JSON body."""

    def hook(reply: RawReply, call: Call) -> RawReply:
        if not when(call):
            return reply
        headers = {**reply.headers, "content-type": "application/json"}
        return RawReply(status, headers, [json.dumps(body).encode()])

    return hook


def _at(body: Any, *path: str | int) -> Any:
    """What lies at the path, or None."""
    for step in path:
        if isinstance(step, int):
            body = body[step] if isinstance(body, list) and len(body) > step else None
        else:
            body = body.get(step) if isinstance(body, dict) else None
    return body
