"""Mutants of rate."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any

from llmengine.mock.behaviour import Behaviour, RawReply
from llmengine.mock.wire import fault_error, openai_envelope
from pytest_llmengine.contract.mutants.registry import mutant, reference

if TYPE_CHECKING:
    from llmengine.mock.behaviour import ReceivedRequest

EVERY = 8
ENVELOPE = openai_envelope(fault_error(429, None))


def _limited(name: str, headers: dict[str, str], body: Any = ENVELOPE) -> Behaviour:
    """A server that answers every eighth request with this 429."""
    calls = count(1)

    def wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if next(calls) % EVERY:
            return reply
        kind = {"content-type": "application/json"}
        return RawReply(429, kind | headers, [json.dumps(body).encode()])

    return Behaviour(name, wire=wire)


reference("rate.429", _limited("with a limit", {"retry-after": "1"}))
for behaviour in (
    _limited("no Retry-After", {}),
    _limited("Retry-After in words", {"retry-after": "soon"}),
    _limited("Retry-After below zero", {"retry-after": "-1"}),
    _limited("no envelope", {"retry-after": "1"}, {"detail": "Too many requests"}),
):
    mutant("rate.429", behaviour)
