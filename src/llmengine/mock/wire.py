"""The answers and errors of routes, and their conversion to bytes with hooks and faults."""

from __future__ import annotations

import copy
import json
import uuid
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING

from llmengine.mock.behaviour import RawReply
from llmengine.mock.json_fields import integer, items, mapping

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llmengine.mock.behaviour import JSON, Behaviour, ReceivedRequest
    from llmengine.mock.script import Fault


@dataclass(slots=True)
class ApiError(Exception):
    """A request is refused; the error has the four fields of OpenAI's error object."""

    message: str
    status: int = 400
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def openai_envelope(error: ApiError) -> JSON:
    """OpenAI's error object, always with all four keys."""
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }


def ollama_envelope(error: ApiError) -> JSON:
    """Ollama's error object: one string."""
    return {"error": error.message}


# Anthropic's type of error for each status, and the types for other 4xx and 5xx.
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def anthropic_envelope(error: ApiError) -> JSON:
    """Anthropic's error object, whose type depends on the status alone."""
    other = "invalid_request_error" if error.status < 500 else "api_error"
    kind = _ANTHROPIC_TYPES.get(error.status, other)
    return {
        "type": "error",
        "error": {"type": kind, "message": error.message},
        "request_id": new_id("req_"),
    }


# Type, code and message of OpenAI's own error for each status.
_FAULT_ERRORS = {
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", None, "You are not allowed to do this."),
    404: ("invalid_request_error", None, "Not found."),
    408: ("server_error", None, "Request timed out."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached. Please try again later."),
    500: ("server_error", None, "The server had an error while processing your request."),
    503: ("server_error", None, "The engine is currently overloaded, please try again later."),
}


def fault_error(status: int, retry_after: float | None) -> ApiError:
    """The error for the status of a fault, with ``Retry-After`` in seconds if it is given."""
    fallback = (
        "invalid_request_error" if status < 500 else "server_error",
        None,
        "A simulated error.",
    )
    kind, code, message = _FAULT_ERRORS.get(status, fallback)
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    return ApiError(message, status=status, type=kind, code=code, headers=headers)


class Framing(Enum):
    """How the objects of a stream are written as bytes."""

    SSE = "server-sent events, [DONE] at the end"
    NAMED_SSE = "server-sent events with their type as name"
    NDJSON = "one JSON object per line"


@dataclass(frozen=True, slots=True)
class JSONAnswer:
    """An answer that is one JSON object."""

    body: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class TextAnswer:
    """An answer that is not JSON."""

    text: str


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """An answer that is the content of a file."""

    content: bytes


@dataclass(frozen=True, slots=True)
class StreamAnswer:
    """A streamed answer, as its JSON objects in order."""

    objects: Sequence[Mapping[str, object]]
    framing: Framing = Framing.SSE


MockAnswer = JSONAnswer | TextAnswer | FileAnswer | StreamAnswer


def token_count(answer: MockAnswer) -> int:
    """The number of tokens per choice of an answer; 0 if the answer has no usage."""
    if isinstance(answer, StreamAnswer):
        return len(answer.objects) // (1 + max(map(_last_index, answer.objects), default=0))
    body = answer.body if isinstance(answer, JSONAnswer) else {}
    usage = mapping(body.get("usage"))
    counts = (usage.get("completion_tokens"), usage.get("output_tokens"), body.get("eval_count"))
    tokens = next((n for count in counts if (n := integer(count)) is not None), 0)
    return tokens // max(1, len(items(body.get("choices"))))


def _last_index(chunk: Mapping[str, object]) -> int:
    return max(
        (integer(mapping(c).get("index")) or 0 for c in items(chunk.get("choices"))), default=0
    )


def new_id(prefix: str) -> str:
    """A new, unique id."""
    return f"{prefix}{uuid.uuid4().hex}"


def encode(value: object) -> bytes:
    """A JSON value as UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


_STREAM_TYPES = {
    Framing.SSE: "text/event-stream; charset=utf-8",
    Framing.NAMED_SSE: "text/event-stream; charset=utf-8",
    Framing.NDJSON: "application/x-ndjson",
}


def success_reply(answer: MockAnswer, behaviour: Behaviour, call: ReceivedRequest) -> RawReply:
    """A successful answer as bytes, with one chunk per event."""
    if isinstance(answer, TextAnswer):
        return _reply(200, "text/plain; charset=utf-8", [answer.text.encode()])
    if isinstance(answer, FileAnswer):
        return _reply(200, "application/octet-stream", [answer.content])
    if isinstance(answer, JSONAnswer):
        body = behaviour.reply(copy.deepcopy(dict(answer.body)), call)
        return _reply(200, "application/json", [encode(body)])
    return _stream(answer, behaviour, call)


def _stream(answer: StreamAnswer, behaviour: Behaviour, call: ReceivedRequest) -> RawReply:
    events = behaviour.events(copy.deepcopy([dict(o) for o in answer.objects]), call)
    chunks = [_event_bytes(event, answer.framing) for event in events]
    if answer.framing is Framing.SSE:
        chunks.append(b"data: [DONE]\n\n")
    reply = _reply(200, _STREAM_TYPES[answer.framing], chunks)
    reply.headers["cache-control"] = "no-cache"
    return reply


def _event_bytes(event: JSON, framing: Framing) -> bytes:
    if framing is Framing.NDJSON:
        return encode(event) + b"\n"
    name = f"event: {event.get('type')}\n".encode() if framing is Framing.NAMED_SSE else b""
    return name + b"data: " + encode(event) + b"\n\n"


def error_reply(error: ApiError, behaviour: Behaviour, call: ReceivedRequest) -> RawReply:
    """An error as bytes, in the form of the API to which the path belongs."""
    body = behaviour.error(_envelope_of(call.path)(error), call)
    reply = _reply(error.status, "application/json", [encode(body)])
    reply.headers.update(error.headers)
    return reply


def _envelope_of(path: str) -> Callable[[ApiError], JSON]:
    if path.startswith("/api/"):
        return ollama_envelope
    return anthropic_envelope if path.startswith("/v1/messages") else openai_envelope


def _reply(status: int, content_type: str, chunks: list[bytes]) -> RawReply:
    headers = {"content-type": content_type, "x-request-id": new_id("req_")}
    return RawReply(status, headers, chunks)


def with_fault(reply: RawReply, fault: Fault, *, streamed: bool) -> RawReply:
    """Apply a fault to the bytes of a reply; delays and cuts happen when it is sent."""
    chunks, headers = list(reply.chunks), dict(reply.headers)
    if fault.malformed_json:
        chunks = _malformed(chunks, streamed=streamed)
    if fault.content_type is not None:
        headers["content-type"] = fault.content_type
    if fault.split_at is not None:
        chunks = split_body(b"".join(chunks), fault.split_at)
    if not streamed:
        headers.setdefault("content-length", str(sum(map(len, chunks))))
    if fault.cut_after is not None and fault.cut_after < len(chunks):
        return replace(reply, headers=headers, chunks=chunks[: fault.cut_after], cut=True)
    return replace(reply, headers=headers, chunks=chunks)


def _malformed(chunks: list[bytes], *, streamed: bool) -> list[bytes]:
    """Cut the JSON of the second chunk, or of the only one, in half."""
    index = min(1, len(chunks) - 1)
    line = chunks[index].rstrip()
    ending = chunks[index][len(line) :] if streamed else b""
    return [*chunks[:index], line[: len(line) // 2] + ending, *chunks[index + 1 :]]


def split_body(body: bytes, at: int | Sequence[int]) -> list[bytes]:
    """Split the bytes into chunks of `at` bytes, or at the given positions."""
    inner = range(at, len(body), at) if isinstance(at, int) else sorted(p for p in at if p > 0)
    edges = [0, *(p for p in inner if p < len(body)), len(body)]
    return [body[start:end] for start, end in pairwise(edges)]
