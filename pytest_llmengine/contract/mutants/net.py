"""Mutants of net."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import answering
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import RawReply, ReceivedRequest


def _closing(reply: RawReply, call: ReceivedRequest) -> RawReply:
    reply.headers["connection"] = "close"
    return reply


def _closing_streams(reply: RawReply, call: ReceivedRequest) -> RawReply:
    streamed = reply.headers["content-type"].startswith("text/event-stream")
    return _closing(reply, call) if streamed else reply


def _hanging_up(reply: RawReply, call: ReceivedRequest) -> RawReply:
    if _is_large(call):
        reply.chunks, reply.cut = [], True
    return reply


def _is_large(call: ReceivedRequest) -> bool:
    return len(call.body) > 1_000_000


def _is_gzip(call: ReceivedRequest) -> bool:
    return call.headers.get("content-encoding") == "gzip"


def _is_chunked(call: ReceivedRequest) -> bool:
    return call.headers.get("transfer-encoding") == "chunked"


def _is_expecting(call: ReceivedRequest) -> bool:
    return "expect" in call.headers


mutant("net.keepalive.reuse", Behaviour("always closes", wire=_closing))
mutant("net.keepalive.reuse", Behaviour("closes after a stream", wire=_closing_streams))
mutant("net.gzip_request", Behaviour("gzip crashes", wire=answering(500, {}, when=_is_gzip)))
mutant("net.gzip_request", Behaviour("no words on gzip", wire=answering(400, {}, when=_is_gzip)))
mutant(
    "net.chunked_request", Behaviour("wants a length", wire=answering(411, {}, when=_is_chunked))
)
mutant("net.expect", Behaviour("expects nothing", wire=answering(417, {}, when=_is_expecting)))
mutant("long.large_body", Behaviour("hangs up", wire=_hanging_up))
mutant("long.large_body", Behaviour("crashes", wire=answering(500, {}, when=_is_large)))
mutant("long.large_body", Behaviour("no words", wire=answering(413, {}, when=_is_large)))
