"""Refusals, in the envelopes of the two APIs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.mock.behaviour import JSON


@dataclass(slots=True)
class ApiError(Exception):
    """A request that is refused, with OpenAI's four words about it."""

    message: str
    status: int = 400
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def openai_envelope(error: ApiError) -> JSON:
    """OpenAI's error object: all four keys, always."""
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


# status: (type, code, message) as OpenAI words its own failures.
_PLAYED = {
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", None, "You are not allowed to do this."),
    404: ("invalid_request_error", None, "Not found."),
    408: ("server_error", None, "Request timed out."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached. Please try again later."),
    500: ("server_error", None, "The server had an error while processing your request."),
    503: ("server_error", None, "The engine is currently overloaded, please try again later."),
}


def played(status: int, retry_after: float | None) -> ApiError:
    """The error that a fault plays, with ``Retry-After`` in seconds where it is given."""
    fallback = ("invalid_request_error" if status < 500 else "server_error", None, "A fault.")
    kind, code, message = _PLAYED.get(status, fallback)
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    return ApiError(message, status=status, type=kind, code=code, headers=headers)
