"""All errors that llmengine raises, as one tree of classes.

LLMEngineError
├── ConfigError              a file, an engine or a field is wrong
│   ├── UnknownEngineError     no engine has that name
│   └── InvalidFieldError      a field does not exist, or its value is wrong
├── InvalidRequestError      a prompt or a parameter is wrong; nothing was sent
│   └── UnknownArgumentError   a call, or its sampling parameters, have no such argument
├── CallError                one call was sent and failed
│   ├── APIConnectionError     the connection failed or broke
│   │   └── NotMockedError       HTTP is mocked, and the mock has no answer; nothing was sent
│   ├── APITimeoutError        one of the clocks ran out (``clock`` says which)
│   ├── BadRequestError        400, 413, 415, 422
│   │   └── ContextLengthError   the prompt does not fit the model
│   ├── AuthenticationError    401, 403
│   ├── NotFoundError          404: no such route or model
│   ├── RateLimitError         429
│   │   └── QuotaError           429, and waiting does not help
│   ├── InternalServerError    5xx
│   ├── UnexpectedResponseError  the answer does not follow the protocol
│   ├── AnswerTooLargeError    the answer exceeds one of the engine's limits
│   ├── StreamIncompleteError  the stream ended without its terminal event
│   └── StructuredOutputError  the answer does not fit the schema, or lacks the tool call
│       ├── RefusedError         the model declined, or the content filter stopped it
│       └── TruncatedError       the answer was cut by the token limit
│           └── WhitespaceLoopError  the answer ended in endless whitespace
└── BatchError               at least one prompt of a batch failed; holds every result
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypedDict, TypeVar

from llmengine.types.printable import printable
from llmengine.types.secrets import mask_logins, scrub

if TYPE_CHECKING:
    from typing import Unpack

    from llmengine.types.outputs import LLMOutput, Usage


E = TypeVar("E", bound=BaseException)

# Packages whose exceptions hold the request, and so the key.
_HTTP_CLIENTS = frozenset(
    {"aiohttp", "h11", "httpcore", "httpcore2", "httptools", "httpx", "httpx2", "openai"}
)


class LLMEngineError(Exception):
    """Base class of all errors raised by llmengine.

    Their messages quote servers and models, so keys and terminal control characters are removed.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(_safe(arg) if isinstance(arg, str) else arg for arg in args))


class ConfigError(LLMEngineError):
    """A configuration is wrong; the message names the file, the engine and the field."""


class UnknownEngineError(ConfigError, KeyError):
    """No engine has that name; the message lists the known names."""

    def __str__(self) -> str:
        """The message as it is; the method of KeyError would put it in quotes."""
        return str(self.args[0])


class InvalidFieldError(ConfigError, ValueError, TypeError):
    """A configuration was made with a field that does not exist or a value that does not fit."""


class InvalidRequestError(LLMEngineError, ValueError):
    """A prompt or a parameter is wrong; this was noticed before anything was sent."""


class UnknownArgumentError(InvalidRequestError, TypeError):
    """A call or its SamplingParams got an argument that they do not have."""


class _Details(TypedDict, total=False):
    """The keyword arguments of CallError."""

    status: int | None
    code: str | None
    type: str | None
    body: str | None
    retry_after: float | None
    partial: LLMOutput | None
    clock: str | None


class CallError(LLMEngineError):
    """One call failed; the error holds what had arrived before.

    ``status`` is the HTTP status or None. ``code`` and ``type`` are the server's values.
    ``retry_after`` is in seconds. ``partial`` holds the text and the usage received before the
    failure. ``clock`` is the name of the clock that ran out, or None. ``attempts`` counts the
    requests sent for this prompt. ``final`` says that the caller already got some content, so
    that another attempt would repeat it.
    """

    _retryable: ClassVar[bool] = False

    def __init__(  # noqa: PLR0913 - one record of one failure
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 - the wire's own name
        body: str | None = None,
        retry_after: float | None = None,
        partial: LLMOutput | None = None,
        clock: str | None = None,
    ) -> None:
        message = _safe(message)
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.type = type
        self.body = None if body is None else scrub(body)
        self.retry_after = retry_after
        self.partial = partial
        self.clock = clock
        self.attempts = 1
        self.final = False

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed if it is sent again.

        501 (Not Implemented) is permanent. A request whose clock ran out after it was sent is not
        sent again, because the same work would be paid for twice. A request whose connection was
        never made is sent again.
        """
        if self.final or self.clock not in (None, "connect"):
            return False
        return self._retryable and self.status != 501  # noqa: PLR2004

    @property
    def usage(self) -> Usage | None:
        """The token counts that the server sent before the failure, if any."""
        return self.partial.usage if self.partial is not None else None

    @property
    def label(self) -> str:
        """The kind of the failure, without any text of the server or the prompt."""
        kind = type(self).__name__
        detail = f"HTTP {self.status}" if self.status is not None else self.clock
        return f"{kind} ({detail})" if detail else kind

    def advise(self, advice: str) -> None:
        """Add to the message what the user can do."""
        self.message = f"{self.message}; {advice}"
        self.args = (self.message,)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by message and attributes: keyword-only arguments do not survive the default."""
        return (type(self), (self.message,), self.__dict__.copy())


class APIConnectionError(CallError):
    """The server could not be reached, or the connection broke before the answer was complete.

    ``connected`` is false if there was no connection, so that the request cannot have arrived.
    """

    _retryable = True

    def __init__(
        self, message: str, *, connected: bool = True, **details: Unpack[_Details]
    ) -> None:
        super().__init__(message, **details)
        self.connected = connected


class NotMockedError(APIConnectionError):
    """A tool such as respx has replaced an HTTP client, and has no answer; nothing was sent."""

    _retryable = False


class APITimeoutError(CallError):
    """A clock ran out: ``clock`` is ``connect``, ``first_token``, ``gap`` or ``total``.

    It is ``cold_start`` if a sleeping server did not wake in time; nothing was sent then.
    """

    _retryable = True


class BadRequestError(CallError):
    """The server refused the request as wrong (400, 413, 415, 422 and other 4xx)."""


class ContextLengthError(BadRequestError):
    """The prompt and the requested tokens do not fit into the model's context."""


class AuthenticationError(CallError):
    """The key is missing, wrong, or not allowed to do this (401, 403)."""


class NotFoundError(CallError):
    """The server has no such model or no such route (404)."""


class RateLimitError(CallError):
    """The server asks for fewer requests (429).

    ``clock`` is ``wait`` if this call was not sent at all, because the server has answered another
    call with 429 and asks for a longer pause than this call may wait.
    """

    _retryable = True


class QuotaError(RateLimitError):
    """The quota of the account is used up: a 429 for which waiting does not help."""

    _retryable = False


class InternalServerError(CallError):
    """The server failed (5xx)."""

    _retryable = True


class UnexpectedResponseError(CallError):
    """The answer does not follow the protocol: not JSON, no choices, a redirect, and so on.

    ``cut`` says that the body of a successful answer is empty, cut, damaged or not JSON. That is
    usually the failure of a gateway, so the request is sent again.
    """

    def __init__(self, message: str, *, cut: bool = False, **details: Unpack[_Details]) -> None:
        super().__init__(message, **details)
        self.cut = cut

    @property
    def retryable(self) -> bool:
        """Whether the same request may bring a complete answer if it is sent again."""
        return self.cut and not self.final

    @property
    def label(self) -> str:
        """The kind of the failure, without any text of the server or the prompt."""
        return f"{super().label}, empty or cut" if self.cut else super().label


class AnswerTooLargeError(CallError):
    """The answer exceeds one of the engine's limits; reading was stopped there."""


class StreamIncompleteError(CallError):
    """The stream ended without its terminal event; ``partial`` holds what had arrived."""

    _retryable = True


class StructuredOutputError(CallError):
    """The answer does not fit the output model, after every step of the ladder was tried.

    The error is also raised if the answer does not call a tool that ``tool_choice`` demands.
    """


class RefusedError(StructuredOutputError):
    """The model or a content filter refused to answer; what arrived is in ``partial``."""


class TruncatedError(StructuredOutputError):
    """The answer was cut by the token limit before it could fit the output model."""


class WhitespaceLoopError(TruncatedError):
    """The answer went on with whitespace until the token limit or llmengine stopped it."""


class HTTPClientError(Exception):
    """The message of an error that the HTTP client raised; it is the cause of a CallError."""


def detached(error: E) -> E:
    """The error without the frames of the call, which hold requests, keys and bodies.

    Tools that report errors show the variables of frames, and an error that is kept would keep
    them in memory. The causes of the error are changed in the same way; a cause that an HTTP client
    raised becomes an HTTPClientError.
    """
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    error.__traceback__ = error.__context__ = None
    error.__cause__ = None if cause is None else _without_request(cause)
    for inner in getattr(error, "exceptions", ()):
        detached(inner)
    return error


def _without_request(error: BaseException) -> BaseException:
    detached(error)
    kind = type(error)
    if kind.__module__.partition(".")[0] not in _HTTP_CLIENTS:
        return error
    message = mask_logins(scrub(f"{kind.__module__}.{kind.__qualname__}: {error}"))
    replacement = HTTPClientError(message)
    replacement.__cause__ = error.__cause__
    return replacement


def _safe(text: str) -> str:
    return printable(mask_logins(scrub(text)))
