"""What the exceptions of the SDK, and of the HTTP client under it, mean here."""

from __future__ import annotations

from typing import Any

from llmengine.transport.base import HTTPReply
from llmengine.types.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    CallError,
    RefusedError,
    TruncatedError,
    UnexpectedResponseError,
)

# By name along the class's ancestors, so that nothing is imported and both generations fit:
# 2.x stands on httpx, 3.x on httpx2, with the same names.
_OURS: dict[str, type[CallError]] = {
    # openai
    "APITimeoutError": APITimeoutError,
    "APIConnectionError": APIConnectionError,
    "APIResponseValidationError": UnexpectedResponseError,
    "ContentFilterFinishReasonError": RefusedError,
    "InvalidWebhookSignatureError": AuthenticationError,
    "LengthFinishReasonError": TruncatedError,
    "SubjectTokenProviderError": AuthenticationError,
    "WebSocketConnectionClosedError": APIConnectionError,
    "OpenAIError": UnexpectedResponseError,
    # httpx and httpx2, while the body of a stream is read
    "TimeoutException": APITimeoutError,
    "TransportError": APIConnectionError,
    "DecodingError": UnexpectedResponseError,
}


def reply_in(error: Exception) -> HTTPReply | None:
    """The server's answer that an APIStatusError stands for; None for any other exception."""
    if not _is(error, "APIStatusError"):
        return None
    response: Any = error.response  # type: ignore[attr-defined]  # found by name
    return HTTPReply(response.status_code, response.headers, response.content)


def ours(error: Exception, url: str) -> CallError | None:
    """The error of ours that an exception means; None if it is not of the SDK."""
    for found in (error, error.__cause__):
        if isinstance(found, CallError):  # raised while we read, which the SDK wraps
            return found
    kind = next((_OURS[name] for name in _ancestors(error) if name in _OURS), None)
    if kind is None:
        return None
    cause = error.__cause__ or error
    said = str(cause) or type(cause).__name__
    if kind is APITimeoutError:
        # The SDK is given no clock but the one of the connection.
        return APITimeoutError(f"no connection to {url} in time", clock="connect")
    if kind is APIConnectionError:
        what = "cannot connect to" if _is(cause, "ConnectError") else "lost the connection to"
        return APIConnectionError(f"{what} {url}: {said}")
    return kind(f"{type(error).__name__} of the openai SDK: {error}", status=_status(error))


def _is(error: BaseException, name: str) -> bool:
    return name in _ancestors(error)


def _ancestors(error: BaseException) -> list[str]:
    return [ancestor.__name__ for ancestor in type(error).__mro__]


def _status(error: Exception) -> int | None:
    return getattr(error, "status_code", None)
