"""Mutants of hdr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import RawReply, ReceivedRequest

HEADER = "x-request-id"


def _never(reply: RawReply, call: ReceivedRequest) -> RawReply:
    reply.headers.pop(HEADER, None)
    return reply


def _not_on_errors(reply: RawReply, call: ReceivedRequest) -> RawReply:
    return _never(reply, call) if reply.status >= 400 else reply


def _always_the_same(reply: RawReply, call: ReceivedRequest) -> RawReply:
    reply.headers[HEADER] = "req_1"
    return reply


mutant("hdr.x_request_id", Behaviour("never", wire=_never))
mutant("hdr.x_request_id", Behaviour("not on errors", wire=_not_on_errors))
mutant("hdr.x_request_id", Behaviour("always the same", wire=_always_the_same))


def _naming(address: str) -> Behaviour:
    def hook(reply: RawReply, call: ReceivedRequest) -> RawReply:
        reply.headers["x-served-by"] = address
        return reply

    return Behaviour(f"names {address}", wire=hook)


mutant("hdr.no_internal_address", _naming("10.0.3.17:8000"))
mutant("hdr.no_internal_address", _naming("http://vllm-0.models.svc.cluster.local:8000/v1"))
mutant("hdr.no_internal_address", _naming("host.docker.internal"))
