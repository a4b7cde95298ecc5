"""Errors from the answers of servers: the error class for a status, a body and headers.

Servers describe an error in JSON of several shapes, as HTML or as plain text. `Envelope` holds
the description in one form.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from pydantic_core import from_json, to_json

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
# The statuses for which Anthropic's types of errors stand, in a stream or in a successful answer.
_BY_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
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
FAILED_REASONS = frozenset({"error", "abort"})

# Codes and types by which OpenAI and llama.cpp report that the prompt is too long.
_CONTEXT_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
# Statuses with which servers refuse a request because of its content.
_REFUSALS = frozenset({400, 413, 422})
# Parts of messages which mean that the prompt is too long, in this order: OpenAI and vLLM;
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
    text = scrub(body[: 2 * _MAX_BODY].decode("utf-8", "replace"))[:_MAX_BODY]
    if status < _FIRST_CLIENT_ERROR:
        return _not_an_answer(status, headers, body, text)
    return _error(status, read_envelope(body), text, retry_after(headers))


def stream_failure(event: Mapping[str, object]) -> CallError:
    """The error for an event that reports an error in a stream, after the status 200 was sent.

    If the code in the event is an HTTP status, it is taken as the status. Codes that OpenAI uses
    in place of a status are translated. Otherwise the status is 500.
    """
    return _reported(event, None, " in the stream")


def reported_failure(data: Mapping[str, object], body: bytes) -> CallError:
    """The error that the body of a successful answer reports, alone or next to choices."""
    return _reported(data, quote(body), " in a successful answer")


def failed_reason(reason: str | None) -> CallError | None:
    """The error for a finish_reason that means a failure; None for any other reason."""
    if reason not in FAILED_REASONS:
        return None
    return InternalServerError(
        f"the server ended the answer with finish_reason {reason!r}, so the answer is not "
        "complete; the part that arrived is in .partial",
        status=_OK,
    )


def _reported(holder: Mapping[str, object], body: str | None, where: str) -> CallError:
    envelope = envelope_of(holder)
    code = envelope.code or as_text(holder.get("status_code")) or ""
    status = int(code) if _STATUS.fullmatch(code) else _status_of(code)
    if holder.get("type") == "error" and not code:
        status = _BY_TYPE.get(envelope.type or "", status)
    return _error(status, envelope, body, None, where)


def _status_of(code: str) -> int:
    if code.startswith(_REFUSED_INPUT):
        return _FIRST_CLIENT_ERROR
    return _TOO_MANY if code in _QUOTA_CODES | {"rate_limit_exceeded"} else _FIRST_SERVER_ERROR


def _error(
    status: int, envelope: Envelope, body: str | None, wait: float | None, where: str = ""
) -> CallError:
    message = f"HTTP {status}{where}: {quote(envelope.message or '')}"
    hint = _hint(status, envelope)
    return _error_class(status, envelope)(
        f"{message} ({hint})" if hint else message,
        status=status,
        code=_scrubbed(envelope.code),
        type=_scrubbed(envelope.type),
        body=body,
        retry_after=wait,
    )


def _error_class(status: int, envelope: Envelope) -> type[CallError]:
    codes = {envelope.code, envelope.type}
    message = envelope.message or ""
    is_too_long = _is_refusal(status, message) and means_context_length(message)
    if codes & _CONTEXT_CODES or is_too_long:
        return ContextLengthError
    if status == _TOO_MANY and codes & _QUOTA_CODES:
        return QuotaError
    if status == _FIRST_SERVER_ERROR and any(part in message for part in _REFUSED_AS_500):
        return BadRequestError
    if status >= _FIRST_SERVER_ERROR:
        return InternalServerError
    return _BY_STATUS.get(status, BadRequestError)


def _is_refusal(status: int, message: str) -> bool:
    """Whether the server refuses the request; Ollama does so with 500 for some long prompts."""
    is_long = status == _FIRST_SERVER_ERROR and "exceed" in message.lower()
    return is_long or status in _REFUSALS


def refuses_reasoning(error: CallError) -> bool:
    """Whether a server refused the request because its model cannot reason."""
    message = error.message.lower()
    if error.status not in _REFUSALS or not ("thinking" in message or "reasoning" in message):
        return False
    is_effort = any(part in message for part in _WRONG_EFFORT)
    return not is_effort and any(part in message for part in _NO_REASONING)


def means_context_length(message: str) -> bool:
    """Whether the message of a refusal means that the prompt is too long."""
    return any(phrase in message.lower() for phrase in _CONTEXT_PHRASES)


def _hint(status: int, envelope: Envelope) -> str | None:
    """What the user can do about the error, if the message of the server does not say."""
    if status == _UNAUTHORIZED:
        return "check the engine's api_key or api_key_env"
    if status not in _NOT_THERE:
        return None
    message = (envelope.message or "").lower()
    if message in _ROUTE_MESSAGES or message.startswith("an html page"):
        return "no such route: check the engine's endpoint; OpenAI-style ones end in /v1"
    return "check the engine's model" if "model" in message else None


def _not_an_answer(
    status: int, headers: Mapping[str, str], body: bytes, text: str
) -> UnexpectedResponseError:
    target = header(headers, "location")
    if status >= _FIRST_REDIRECT and target:
        message = (
            f"HTTP {status}: the server redirects to {scrub(target)}; redirects are not followed, "
            "so that no key is sent to another host; if that address is right, set the engine's "
            "endpoint to it"
        )
    else:
        message = f"HTTP {status} is not an answer to this call: {quote(body)}"
    return UnexpectedResponseError(message, status=status, body=text)


def _scrubbed(text: str | None) -> str | None:
    return None if text is None else scrub(text)


_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_MAX_NESTING = 4
_TITLE_SEARCHED = 4096  # characters; a hostile page can make the search take quadratic time


@dataclass(frozen=True, slots=True)
class Envelope:
    """How a server describes an error; all fields are None for an empty body."""

    message: str | None = None
    type: str | None = None
    code: str | None = None


def read_envelope(body: bytes) -> Envelope:
    """The envelope in the body of an error: JSON of any known shape, HTML or plain text."""
    text = body.decode("utf-8", "replace").strip()
    if (value := _json(text)) is not None:
        return envelope_of(value)
    title = _TITLE.search(text[:_TITLE_SEARCHED])
    if title is not None:
        return Envelope(f"an HTML page titled {title.group(1).strip()!r}")
    if text.startswith("<"):
        return Envelope("an HTML page")
    return Envelope(text or None)


def envelope_of(value: object, depth: int = 0) -> Envelope:
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


def _fields(error: Mapping[str, object], depth: int) -> Envelope:
    message, kind, code = (as_text(error.get(name)) for name in ("message", "type", "code"))
    return _nested(Envelope(message, kind, code), depth)


def _nested(outer: Envelope, depth: int) -> Envelope:
    """The envelope inside the message, if that is a JSON document, else `outer`."""
    inner = _json(outer.message or "")
    if not isinstance(inner, dict) or depth >= _MAX_NESTING:
        return outer
    read = envelope_of(inner, depth + 1)
    return Envelope(read.message or outer.message, read.type or outer.type, read.code or outer.code)


def _detail(detail: object) -> str:
    if not isinstance(detail, list):
        return as_text(detail) or ""
    return "; ".join(_problem(d) for d in detail)


def _problem(item: object) -> str:
    if not isinstance(item, dict):
        return as_text(item) or "null"
    place, message = item.get("loc"), as_text(item.get("msg")) or "null"
    parts = place if isinstance(place, list) else [place] if place else []
    return ": ".join(filter(None, [".".join(as_text(p) or "null" for p in parts), message]))


def _json(text: str) -> object:
    if not text.startswith(("{", "[")):
        return None
    try:
        return from_json(text)
    except ValueError:
        return None


def as_text(value: object) -> str | None:
    """Text as it is, anything else as short JSON, None for null."""
    return value if value is None or isinstance(value, str) else quote(to_json(value))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, at least 0; None if the headers name no time that can be read.

    ``retry-after-ms`` (OpenAI, Azure) has priority over ``retry-after``, which holds seconds or a
    date (RFC 9110, section 10.2.3). A date is compared with the ``date`` header of the same
    answer, so that the clocks of server and client need not agree.
    """
    milliseconds = _number(header(headers, "retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = header(headers, "retry-after")
    seconds = _number(value)
    return seconds if seconds is not None else _until(value, header(headers, "date"))


def header(headers: Mapping[str, str], name: str) -> str | None:
    """A header by its lower-case name, also from a mapping that is case-sensitive."""
    value = headers.get(name)
    if value is None:
        value = next((v for k, v in headers.items() if k.lower() == name), None)
    return value


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return max(number, 0.0) if math.isfinite(number) else None


def _until(value: str | None, now: str | None) -> float | None:
    at = _timestamp(value)
    if at is None:
        return None
    sent = _timestamp(now)
    return max(at - (time.time() if sent is None else sent), 0.0)


def _timestamp(value: str | None) -> float | None:
    try:
        return parsedate_to_datetime(value or "").timestamp()
    except (ValueError, OverflowError, IndexError, TypeError):  # parsedate raises them
        return None
