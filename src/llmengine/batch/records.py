"""One line of a batch's output, exactly as OpenAI writes them.

``{"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}``. ``body`` is
the server's own text, spliced in as it came. ``error`` is null, or ``{"code", "message"}`` with
one key of ours, ``llmengine``: the line of the input, the attempts made, and the tokens they used.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pydantic_core import from_json

from llmengine.dialects.common import header
from llmengine.types.errors import CallError
from llmengine.types.secrets import scrub

if TYPE_CHECKING:
    from llmengine.batch.asking import Answer
    from llmengine.batch.lines import BadLine, BatchRequest
    from llmengine.transport.base import HTTPReply

EXTRA = "llmengine"
START = b'{"id":"batch_req_'

_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def answer_record(request: BatchRequest, answer: Answer) -> bytes:
    """The line for a request that was asked, whatever became of it."""
    error = None
    if answer.error is not None:
        usage = asdict(answer.usage) if answer.usage is not None else None
        extra = {"line": request.line, "attempts": answer.attempts, "usage": usage}
        error = _error(_code(answer.error), str(answer.error), extra)
    return _record(request.custom_id, _response(answer), error)


def bad_line_record(entry: BadLine) -> bytes:
    """The line for one that was never asked."""
    extra = {"line": entry.line, "attempts": 0, "usage": None}
    return _record(entry.custom_id, "null", _error("invalid_line", entry.problem, extra))


def _record(custom_id: str | None, response: str, error: dict[str, Any] | None) -> bytes:
    text = (
        f'{START.decode()}{uuid4().hex}","custom_id":{_json(custom_id)},'
        f'"response":{response},"error":{_json(error)}}}'
    )
    return scrub(text).encode() + b"\n"


def _response(answer: Answer) -> str:
    reply = answer.reply
    if reply is None:
        return "null"
    status, request_id = reply.status, _json(header(reply.headers, "x-request-id"))
    return f'{{"status_code":{status},"request_id":{request_id},"body":{_body(reply)}}}'


def _body(reply: HTTPReply) -> str:
    """The body as it came if it is JSON, on one line; else its text as a JSON string."""
    try:
        from_json(reply.body)
    except ValueError:
        return _json(reply.body.decode("utf-8", "replace"))
    # In JSON a line break is only ever space between values.
    return reply.body.decode().replace("\r", " ").replace("\n", " ").strip()


def _error(code: str, message: str, extra: dict[str, Any]) -> dict[str, Any]:
    return {"code": code, "message": message, EXTRA: extra}


def _code(error: Exception) -> str:
    """The server's own code, else our error's name in the same spelling."""
    said = error.code if isinstance(error, CallError) else None
    return said or _WORD_START.sub("_", type(error).__name__).lower()


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
