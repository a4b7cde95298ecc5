"""The four wire formats of the backends, from the server's side, with true answers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Wire:
    """One format: its true answer, whole and as the events of a stream.

    ``fields`` says where each part of an answer is, by name, in the whole answer and in an event.
    """

    name: str
    stream_type: str
    answer: Callable[[str], dict[str, Any]]
    events: Callable[[str], list[dict[str, Any]]]
    fields: dict[str, tuple[Path, Path]]
    end: bytes = b""
    newline: bytes = b"\n"

    def frame(self, data: bytes) -> bytes:
        """One event of a stream."""
        if self.stream_type == NDJSON:
            return data + self.newline
        return b"data: " + data + 2 * self.newline


@dataclass(frozen=True)
class Asked:
    """The parts of a request that decide its answer: true answers, and pieces of them."""

    wire: Wire
    stream: bool
    text: str
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def type(self) -> str:
        """The media type of the answer."""
        return self.wire.stream_type if self.stream else "application/json"

    @property
    def answer(self) -> dict[str, Any]:
        """The whole answer as a JSON object."""
        return self.wire.answer(self.text)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The answer as the events of a stream."""
        return self.wire.events(self.text)

    def framed(self, events: list[Any], end: bytes | None = None) -> bytes:
        """Events as bytes, with the mark that ends a stream."""
        data = [self.wire.frame(encode(event)) for event in events]
        return b"".join(data) + (self.wire.end if end is None else end)

    @property
    def body(self) -> bytes:
        """The body of the answer: the whole answer, or the whole stream."""
        return self.framed(self.events) if self.stream else encode(self.answer)

    @property
    def first(self) -> bytes:
        """The first part of the body; in a stream it has some of the text."""
        return self.framed(self.events[:-2], b"") if self.stream else self.body[:-9]

    @property
    def rest(self) -> bytes:
        """The rest of the body."""
        return self.body[len(self.first) :]


def encode(value: Any) -> bytes:
    """A value as JSON; bytes are JSON already."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def set_at(value: Any, path: Path, new: Any) -> bool:
    """Put `new` at that path, or remove what is there if `new` is `...`.

    Returns False and changes nothing if there is nothing to remove.
    """
    *parents, last = path
    try:
        for part in parents:
            value = value[part]
        if value[last] in (None, "", [], {}):
            return False
    except (KeyError, IndexError, TypeError):
        return False
    if new is ...:
        del value[last]
    else:
        value[last] = new
    return True


SSE, NDJSON = "text/event-stream", "application/x-ndjson"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def _chat(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": dict(USAGE),
    }


def chat_chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    """One chunk of a chat completion."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
    }


def _chat_chunks(text: str) -> list[dict[str, Any]]:
    first, second = _halves(text)
    return [
        chat_chunk({"role": "assistant", "content": first}),
        chat_chunk({"content": second}),
        chat_chunk({}, "stop"),
        {**chat_chunk({}), "choices": [], "usage": dict(USAGE)},
    ]


def _response(text: str, *, status: str = "completed") -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": status}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "m",
        "output": [{**message, "content": [part]}] if text else [],
        "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
    }


def _response_events(text: str) -> list[dict[str, Any]]:
    first, second = _halves(text)
    place = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0}
    return [
        {"type": "response.created", "response": _response("", status="in_progress")},
        {**place, "delta": first},
        {**place, "delta": second},
        {"type": "response.completed", "response": _response(text)},
    ]


def _ollama(text: str, *, done: bool = True) -> dict[str, Any]:
    line = {"model": "m", "message": {"role": "assistant", "content": text}, "done": done}
    counts = {"done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2}
    return line | counts if done else line


def _ollama_lines(text: str) -> list[dict[str, Any]]:
    first, second = _halves(text)
    return [_ollama(first, done=False), _ollama(second, done=False), _ollama("")]


def _message(text: str, *, stop: str | None = "end_turn") -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": text}] if text else [],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }


def _message_events(text: str) -> list[dict[str, Any]]:
    place = {"type": "content_block_delta", "index": 0}
    begun = {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    return [
        {"type": "message_start", "message": _message("", stop=None)},
        begun,
        *({**place, "delta": {"type": "text_delta", "text": half}} for half in _halves(text)),
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]


CHAT = Wire(
    "chat",
    SSE,
    _chat,
    _chat_chunks,
    {
        "message": (("choices", 0, "message"), ("choices", 0, "delta")),
        "choices": (("choices",), ("choices",)),
        "finish_reason": (("choices", 0, "finish_reason"), ("choices", 0, "finish_reason")),
        "first choice": (("choices", 0), ("choices", 0)),
        "id": (("id",), ("id",)),
        "index": (("choices", 0, "index"), ("choices", 0, "index")),
        "model": (("model",), ("model",)),
        "content": (("choices", 0, "message", "content"), ("choices", 0, "delta", "content")),
        "total_tokens": (("usage", "total_tokens"), ("usage", "total_tokens")),
        "usage": (("usage",), ("usage",)),
    },
    b"data: [DONE]\n\n",
)
RESPONSES = Wire(
    "responses",
    SSE,
    _response,
    _response_events,
    {
        "message": (("output", 0), ("response",)),
        "choices": (("output",), ("response",)),
        "finish_reason": (("status",), ("response", "status")),
        "first choice": (("output", 0, "content", 0), ("response",)),
        "id": (("id",), ("response", "id")),
        "index": (("output", 0, "id"), ("output_index",)),
        "model": (("model",), ("response", "model")),
        "content": (("output", 0, "content", 0, "text"), ("delta",)),
        "total_tokens": (("usage", "total_tokens"), ("response", "usage", "total_tokens")),
        "usage": (("usage",), ("response", "usage")),
    },
)
MESSAGES = Wire(
    "messages",
    SSE,
    _message,
    _message_events,
    {
        "message": (("content", 0), ("delta",)),
        "choices": (("content",), ("delta",)),
        "finish_reason": (("stop_reason",), ("delta", "stop_reason")),
        "first choice": (("content", 0), ("delta",)),
        "id": (("id",), ("message", "id")),
        "index": (("content", 0, "index"), ("index",)),
        "model": (("model",), ("message", "model")),
        "content": (("content", 0, "text"), ("delta", "text")),
        "total_tokens": (("usage", "output_tokens"), ("usage", "output_tokens")),
        "usage": (("usage",), ("usage",)),
    },
)
OLLAMA = Wire(
    "ollama",
    NDJSON,
    _ollama,
    _ollama_lines,
    {
        "message": (("message",), ("message",)),
        "choices": (("message",), ("message",)),
        "finish_reason": (("done_reason",), ("done_reason",)),
        "first choice": (("message",), ("message",)),
        "id": (("model",), ("model",)),
        "index": (("model",), ("model",)),
        "model": (("model",), ("model",)),
        "content": (("message", "content"), ("message", "content")),
        "total_tokens": (("eval_count",), ("eval_count",)),
        "usage": (("prompt_eval_count",), ("prompt_eval_count",)),
    },
)


def wire_of(path: str) -> Wire | None:
    """The format of a route, or None if it is not a route of chats."""
    ends = {
        "/api/chat": OLLAMA,
        "/responses": RESPONSES,
        "/chat/completions": CHAT,
        "/messages": MESSAGES,
    }
    return next((wire for end, wire in ends.items() if path.endswith(end)), None)
