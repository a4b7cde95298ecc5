"""From an answer to bytes, through the behaviour's hooks and the fault to play."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Fault, RawReply
from llmengine.mock.errors import ApiError, ollama_envelope, openai_envelope
from llmengine.mock.replies import Framing, Plain, Stream, Whole, encode, new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.mock.behaviour import JSON, Behaviour, Call
    from llmengine.mock.replies import Answer

NO_FAULT = Fault()
_STREAM_TYPES = {
    Framing.SSE: "text/event-stream; charset=utf-8",
    Framing.NAMED_SSE: "text/event-stream; charset=utf-8",
    Framing.NDJSON: "application/x-ndjson",
}


def success(answer: Answer, behaviour: Behaviour, call: Call) -> RawReply:
    """An answer as bytes, one chunk an event."""
    if isinstance(answer, Plain):
        return _reply(200, "text/plain; charset=utf-8", [answer.text.encode()])
    if isinstance(answer, Whole):
        body = behaviour.reply(copy.deepcopy(answer.body), call)
        return _reply(200, "application/json", [encode(body)])
    return _stream(answer, behaviour, call)


def _stream(answer: Stream, behaviour: Behaviour, call: Call) -> RawReply:
    events = behaviour.events(copy.deepcopy(answer.objects), call)
    chunks = [_framed(event, answer.framing) for event in events]
    if answer.framing is Framing.SSE:
        chunks.append(b"data: [DONE]\n\n")
    reply = _reply(200, _STREAM_TYPES[answer.framing], chunks)
    reply.headers["cache-control"] = "no-cache"
    return reply


def _framed(event: JSON, framing: Framing) -> bytes:
    if framing is Framing.NDJSON:
        return encode(event) + b"\n"
    name = f"event: {event.get('type')}\n".encode() if framing is Framing.NAMED_SSE else b""
    return name + b"data: " + encode(event) + b"\n\n"


def failure(error: ApiError, behaviour: Behaviour, call: Call) -> RawReply:
    """A refusal as bytes, in the envelope of the API that the path belongs to."""
    envelope = ollama_envelope if call.path.startswith("/api/") else openai_envelope
    body = behaviour.error(envelope(error), call)
    reply = _reply(error.status, "application/json", [encode(body)])
    reply.headers.update(error.headers)
    return reply


def _reply(status: int, content_type: str, chunks: list[bytes]) -> RawReply:
    headers = {"content-type": content_type, "x-request-id": new_id("req_")}
    return RawReply(status, headers, chunks)


def spoiled(reply: RawReply, fault: Fault, *, streamed: bool) -> RawReply:
    """The reply with what a fault does to its bytes; waiting and hanging up come in sending."""
    chunks, headers = list(reply.chunks), dict(reply.headers)
    if fault.malformed_json:
        chunks = _malformed(chunks, streamed=streamed)
    if fault.content_type is not None:
        headers["content-type"] = fault.content_type
    if fault.split_at is not None:
        chunks = resplit(b"".join(chunks), fault.split_at)
    if not streamed:
        headers.setdefault("content-length", str(sum(map(len, chunks))))
    if fault.cut_after is not None and fault.cut_after < len(chunks):
        return replace(reply, headers=headers, chunks=chunks[: fault.cut_after], cut=True)
    return replace(reply, headers=headers, chunks=chunks)


def _malformed(chunks: list[bytes], *, streamed: bool) -> list[bytes]:
    place = min(1, len(chunks) - 1)
    broken = chunks[place].rstrip()
    ending = chunks[place][len(broken) :] if streamed else b""
    return [*chunks[:place], broken[: len(broken) // 2] + ending, *chunks[place + 1 :]]


def resplit(body: bytes, at: int | Sequence[int]) -> list[bytes]:
    """The bytes cut anew: every `at` bytes, or at the positions given."""
    cuts = range(at, len(body), at) if isinstance(at, int) else sorted(p for p in at if p > 0)
    edges = [0, *(c for c in cuts if c < len(body)), len(body)]
    return [body[a:b] for a, b in pairwise(edges)]
