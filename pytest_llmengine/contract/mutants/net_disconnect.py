"""Mutants of net.disconnect, and of clients that read slowly."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour, RawReply
from pytest_llmengine.contract.mutants.hooks import rule_off
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import ReceivedRequest


def _is_stream(reply: RawReply) -> bool:
    return len(reply.chunks) > 100


def _hurried(*, cut: bool) -> Behaviour:
    """A server that has lost a part of a long stream when it is sent a second time."""
    streams = count(1)

    def wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if _is_stream(reply) and next(streams) == 2:
            if cut:
                reply.chunks, reply.cut = reply.chunks[:60], True
            else:
                del reply.chunks[60:63]
        return reply

    return Behaviour("cuts slow streams" if cut else "drops chunks of slow streams", wire=wire)


def _busy_with_a_stream() -> Behaviour:
    """A server that has no answer for others once it has begun a long stream."""
    begun: list[bool] = []

    def wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if begun and not _is_stream(reply):
            return RawReply(503, reply.headers, [b"{}"])
        if _is_stream(reply):
            begun.append(True)
        return reply

    return Behaviour("busy with a stream", wire=wire)


rule_off("net.disconnect.stream")
rule_off("net.disconnect.whole")
mutant("net.slow_reader", _hurried(cut=True))
mutant("net.slow_reader", _hurried(cut=False))
mutant("net.slow_reader", _busy_with_a_stream())
