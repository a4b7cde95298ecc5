"""Mutants of the limits and faults of a server."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour, RawReply
from llmengine.mock.wire import fault_error, openai_envelope
from pytest_llmengine.contract.mutants.hooks import events, sent
from pytest_llmengine.contract.mutants.registry import mutant, reference

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON, ReceivedRequest


def _broken_after(name: str, size: int, status: int) -> Behaviour:
    """A server that answers with this status after a request of so many bytes."""
    broken: list[bool] = []

    def wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if broken:
            reply = replace(reply, status=status, chunks=[b"{}"])
        if len(call.body) > size:
            broken.append(True)
        return reply

    return Behaviour(name, wire=wire)


mutant("net.recovery", _broken_after("out of memory", 1_000_000, 500))
mutant("net.recovery", _broken_after("confused by a body", 99_000, 400))


def _forgetful() -> Behaviour:
    """A server that loses the prompt that comes after a huge one."""
    huge: list[bool] = []

    def request(body: JSON, call: ReceivedRequest) -> JSON:
        if huge:
            huge.clear()
            body = {**body, "messages": [{"role": "user", "content": "Hello"}]}
        huge.extend([True] * (len(call.body) > 1_000_000))
        return body

    return Behaviour("loses the next prompt", request=request)


mutant("net.recovery", _forgetful())

COMMENT = b": keep-alive\n\n"


def _waiting(name: str, *kept_alive: bytes) -> Behaviour:
    """A server that sends these bytes before the first chunk of a stream."""
    return Behaviour(name, wire=sent(lambda chunks: [*kept_alive, *chunks]))


reference("net.keepalive_comments", _waiting("with comments", COMMENT, COMMENT))
mutant("net.keepalive_comments", _waiting("an empty event", COMMENT, b"data:\n\n"))
mutant("net.keepalive_comments", _waiting("a ping", COMMENT, b"event: ping\ndata: {}\n\n"))

ERROR = openai_envelope(fault_error(500, None))


def _failing(name: str, *last: JSON) -> Behaviour:
    """A server whose streams end with these objects."""
    return Behaviour(name, events=events(lambda found: [*found[:3], *last]))


reference("net.error_event", _failing("fails in mid-stream", ERROR))
mutant("net.error_event", _failing("an error in words", {"error": "The engine died."}))
mutant("net.error_event", _failing("no message", {"error": {"code": 500}}))
mutant("net.error_event", _failing("goes on after an error", ERROR, {"choices": []}))
mutant("net.error_event", _failing("just ends"))
