"""Errors from the answers of servers: which error class a status and a body mean.

Servers describe an error in JSON of several shapes, as HTML or as plain text. `Envelope` holds
what they say in one form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from llmengine.dialects.common import header, retry_after
from llmengine.dialects.fields import quote
from llmengine.types.errors import (
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    CallError,
    ContextLengthError,
    InternalServerError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    UnexpectedResponseError,
)
from llmengine.types.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Mapping


_MAX_BODY = 4096

_BY_STATUS: dict[int, type[CallError]] = {
    401: AuthenticationError,
    402: QuotaError,  # "payment required": DeepSeek, OpenRouter
    403: AuthenticationError,
    404: NotFoundError,
    408: APITimeoutError,
    429: RateLimitError,
}
_UNAUTHORIZED, _TOO_MANY = 401, 429
_NOT_THERE = frozenset({404, 405})
# Messages of web frameworks (Go, Starlette, or none at all), not of model servers.
_ROUTE_MESSAGES = frozenset(
    {"", "404 page not found", "not found", "405 method not allowed", "method not allowed"}
)
_FIRST_REDIRECT, _FIRST_CLIENT_ERROR, _FIRST_SERVER_ERROR, _LAST = 300, 400, 500, 599
_OK = 200
_STATUS = re.compile("[45][0-9][0-9]")

# Values of finish_reason with which vLLM and SGLang mark an answer that failed on the server.
_FAILED = frozenset({"error", "abort"})

# Codes and types with which OpenAI and llama.cpp say that the prompt is too long.
_CONTEXT_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
# Statuses with which servers refuse a request because of its content.
_REFUSALS = frozenset({400, 413, 422})
# Parts of messages that say that the prompt is too long, in this order: OpenAI and vLLM;
# llama.cpp; SGLang; vLLM's token limit; Anthropic; Ollama.
_CONTEXT_PHRASES = (
    "maximum context length",
    "context size",
    "model's context length",
    "max_model_len",
    "prompt is too long",
    "context window",
    "exceeds the context length",
    "max context length",
    "longer than the context length",
)
# Parts of Ollama's messages with status 500 for a request that is wrong.
_REFUSED_AS_500 = ("must be of type", "invalid format:")
# Parts of messages that refuse reasoning because the model cannot reason (`_NO_REASONING`), and
# of messages that refuse only the effort that was given (`_WRONG_EFFORT`).
_NO_REASONING = (
    "not support",
    "unsupported parameter",
    "unrecognized request argument",
    "not permitted",
)
_WRONG_EFFORT = ("unsupported value", "supported values", "invalid think", "invalid reasoning")
# Prefixes of the codes in ResponseErrorCode (openai-openapi) that concern the input.
_REFUSED_INPUT = ("invalid_", "image_", "empty_image", "failed_to_download_image", "unsupported_")
_QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "quota_exceeded",
        "insufficient_balance",
    }
)


def failure(status: int, headers: Mapping[str, str], body: bytes) -> CallError:
    """The error for an unsuccessful answer, with the message of the server and keys masked."""
    kept = scrub(body[: 2 * _MAX_BODY].decode("utf-8", "replace"))[:_MAX_BODY]
    if status < _FIRST_CLIENT_ERROR:
        return _not_an_answer(status, headers, body, kept)
    return _error(status, read_envelope(body), kept, retry_after(headers))


def stream_failure(event: Mapping[str, Any]) -> CallError:
    """The error for an event that reports an error in a stream, after the status 200 was sent.

    If the code in the event is an HTTP status, it is taken as the status. Codes that OpenAI uses
    in place of a status are translated. Otherwise the status is 500.
    """
    return _reported(event, None, " in the stream")


def reported_failure(data: Mapping[str, Any], body: bytes) -> CallError:
    """The error that the body of a successful answer reports, alone or next to choices."""
    return _reported(data, quote(body), " in a successful answer")


def failed_reason(reason: str | None) -> CallError | None:
    """The error for a finish_reason that means a failure; None for any other reason."""
    if reason not in _FAILED:
        return None
    return InternalServerError(
        f"the server ended the answer with finish_reason {reason!r}, so it is not whole; what came "
        "is in .partial",
        status=_OK,
    )


def _reported(holder: Mapping[str, Any], body: str | None, where: str) -> CallError:
    said = envelope_of(holder)
    code = said.code or as_text(holder.get("status_code")) or ""
    status = int(code) if _STATUS.fullmatch(code) else _status_of(code)
    return _error(status, said, body, None, where)


def _status_of(code: str) -> int:
    if code.startswith(_REFUSED_INPUT):
        return _FIRST_CLIENT_ERROR
    return _TOO_MANY if code in _QUOTA_CODES | {"rate_limit_exceeded"} else _FIRST_SERVER_ERROR


def _error(
    status: int, said: Envelope, body: str | None, wait: float | None, where: str = ""
) -> CallError:
    kind = _kind(status, said)
    message = f"HTTP {status}{where}: {quote(said.message or '')}"
    hint = _hint(status, said)
    return kind(
        f"{message} ({hint})" if hint else message,
        status=status,
        code=_scrubbed(said.code),
        type=_scrubbed(said.type),
        body=body,
        retry_after=wait,
    )


def _kind(status: int, said: Envelope) -> type[CallError]:
    words = {said.code, said.type}
    too_long = _refuses(status, said) and speaks_of_context(said.message or "")
    if words & _CONTEXT_CODES or too_long:
        return ContextLengthError
    if status == _TOO_MANY and words & _QUOTA_CODES:
        return QuotaError
    if status >= _FIRST_SERVER_ERROR:
        return BadRequestError if _refuses_as_500(status, said) else InternalServerError
    return _BY_STATUS.get(status, BadRequestError)


def _refuses(status: int, said: Envelope) -> bool:
    """Whether the server refuses the request; Ollama does so with 500 for some long prompts."""
    message = (said.message or "").lower()
    return status in _REFUSALS or (status == _FIRST_SERVER_ERROR and "exceed" in message)


def _refuses_as_500(status: int, said: Envelope) -> bool:
    message = said.message or ""
    return status == _FIRST_SERVER_ERROR and any(p in message for p in _REFUSED_AS_500)


def refuses_reasoning(error: CallError) -> bool:
    """Whether a server refused the request because its model cannot reason."""
    said = error.message.lower()
    if error.status not in _REFUSALS or not ("thinking" in said or "reasoning" in said):
        return False
    return any(p in said for p in _NO_REASONING) and not any(p in said for p in _WRONG_EFFORT)


def speaks_of_context(message: str) -> bool:
    """Whether the message of a refusal means that the prompt is too long."""
    return any(phrase in message.lower() for phrase in _CONTEXT_PHRASES)


def _hint(status: int, said: Envelope) -> str | None:
    """What the user can do about the error, if the message of the server does not say."""
    if status == _UNAUTHORIZED:
        return "check the engine's api_key or api_key_env"
    if status not in _NOT_THERE:
        return None
    message = (said.message or "").lower()
    if message in _ROUTE_MESSAGES or message.startswith("an html page"):
        return "no such route: check the engine's endpoint; OpenAI-style ones end in /v1"
    return "check the engine's model" if "model" in message else None


def _not_an_answer(
    status: int, headers: Mapping[str, str], body: bytes, kept: str
) -> UnexpectedResponseError:
    target = header(headers, "location")
    if status >= _FIRST_REDIRECT and target:
        what = (
            f"HTTP {status}: the server redirects to {scrub(target)}; redirects are not followed, "
            "so that no key goes to another host: set the engine's endpoint to where it points"
        )
    else:
        what = f"HTTP {status} is no answer to this call: {quote(body)}"
    return UnexpectedResponseError(what, status=status, body=kept)


def _scrubbed(text: str | None) -> str | None:
    return None if text is None else scrub(text)


_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_MAX_NESTING = 4
_TITLE_WITHIN = 4096  # characters; a hostile page can make the search take quadratic time


@dataclass(frozen=True, slots=True)
class Envelope:
    """How a server describes an error; all fields are None for an empty body."""

    message: str | None = None
    type: str | None = None
    code: str | None = None


def read_envelope(body: bytes) -> Envelope:
    """The envelope in the body of an error: JSON of any known shape, HTML or plain text."""
    text = body.decode("utf-8", "replace").strip()
    value = _json(text)
    if value is not None:
        return envelope_of(value)
    title = _TITLE.search(text[:_TITLE_WITHIN])
    if title is not None:
        return Envelope(f"an HTML page titled {title.group(1).strip()!r}")
    if text.startswith("<"):
        return Envelope("an HTML page")
    return Envelope(text or None)


def envelope_of(value: Any, depth: int = 0) -> Envelope:
    """The envelope in a decoded JSON value.

    The known shapes are ``{"error": {...}}`` (OpenAI, vLLM, llama.cpp), ``{"error": "..."}``
    (Ollama), ``{"detail": ...}`` (FastAPI), the fields at the top level (SGLang), and a JSON
    document as the text of a message (Ollama, when it passes on an error of its runner).
    """
    if not isinstance(value, dict):
        return Envelope(as_text(value) if value else None)
    error = value.get("error")
    if isinstance(error, dict):
        return _fields(error, depth)
    if error:
        return _nested(Envelope(as_text(error), as_text(value.get("error_type"))), depth)
    if value.get("detail"):
        return Envelope(_detail(value["detail"]))
    return _fields(value, depth)


def _fields(error: dict[str, Any], depth: int) -> Envelope:
    message, kind, code = (as_text(error.get(name)) for name in ("message", "type", "code"))
    return _nested(Envelope(message, kind, code), depth)


def _nested(outer: Envelope, depth: int) -> Envelope:
    """The envelope inside the message, if that is a JSON document, else `outer`."""
    inner = _json(outer.message or "")
    if not isinstance(inner, dict) or depth >= _MAX_NESTING:
        return outer
    read = envelope_of(inner, depth + 1)
    return Envelope(read.message or outer.message, read.type or outer.type, read.code or outer.code)


def _detail(detail: Any) -> str:
    if not isinstance(detail, list):
        return as_text(detail) or ""
    return "; ".join(_problem(d) for d in detail)


def _problem(item: Any) -> str:
    if not isinstance(item, dict):
        return as_text(item) or "null"
    place, said = item.get("loc"), as_text(item.get("msg")) or "null"
    parts = place if isinstance(place, list) else [place] if place else []
    return ": ".join(filter(None, [".".join(as_text(p) or "null" for p in parts), said]))


def _json(text: str) -> Any:
    if not text.startswith(("{", "[")):
        return None
    try:
        return from_json(text)
    except ValueError:
        return None


def as_text(value: Any) -> str | None:
    """Text as it is, anything else as short JSON, None for null."""
    return value if value is None or isinstance(value, str) else quote(to_json(value))
