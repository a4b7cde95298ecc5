"""Everything that can go wrong, as one tree.

LLMEngineError
├── ConfigError              a file, an engine or a field is wrong
│   ├── UnknownEngineError     no engine has that name
│   └── InvalidFieldError      a field does not exist, or its value is wrong
├── InvalidRequestError      a prompt or a parameter is wrong; nothing was sent
│   └── UnknownArgumentError   a call, or its sampling parameters, have no such argument
├── CallError                one call was sent and failed
│   ├── APIConnectionError     no connection, or it broke
│   ├── APITimeoutError        one of the clocks ran out (``clock`` says which)
│   ├── BadRequestError        400, 413, 415, 422
│   │   └── ContextLengthError   the prompt does not fit the model
│   ├── AuthenticationError    401, 403
│   ├── NotFoundError          404: no such route or model
│   ├── RateLimitError         429
│   │   └── QuotaError           429 that no waiting mends
│   ├── InternalServerError    5xx
│   ├── UnexpectedResponseError  an answer that is not the protocol's
│   ├── AnswerTooLargeError    an answer beyond the engine's limits
│   ├── StreamIncompleteError  the stream ended without its terminal event
│   └── StructuredOutputError  the answer does not fit the schema, or lacks the tool call
│       ├── RefusedError         the model declined, or the content filter stopped it
│       └── TruncatedError       it was cut by the token limit
│           └── WhitespaceLoopError  it became nothing but whitespace
└── BatchError               at least one prompt of a batch failed; holds every result
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from llmengine.types.printable import printable
from llmengine.types.secrets import mask_logins, scrub

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.types.outputs import LLMOutput, Result, Usage


E = TypeVar("E", bound=BaseException)

# Their exceptions hold the request, and so the key.
_HTTP_CLIENTS = frozenset({"aiohttp", "h11", "httpcore", "httpcore2", "httpx", "httpx2", "openai"})


class LLMEngineError(Exception):
    """Base class of all errors raised by llmengine.

    No key is in their texts, and nothing that a terminal would obey: they quote servers and models.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(_safe(arg) if isinstance(arg, str) else arg for arg in args))


class ConfigError(LLMEngineError):
    """A configuration is wrong; the message names the file, the engine and the field."""


class UnknownEngineError(ConfigError, KeyError):
    """No engine has that name; the message lists those that are known."""

    def __str__(self) -> str:
        """The message as it is; a KeyError would quote it."""
        return str(self.args[0])


class InvalidFieldError(ConfigError, ValueError, TypeError):
    """A configuration was made with a field that does not exist or a value that does not fit."""


class InvalidRequestError(LLMEngineError, ValueError):
    """A prompt or a parameter is wrong, seen before anything was sent."""


class UnknownArgumentError(InvalidRequestError, TypeError):
    """A call or its SamplingParams got an argument that they do not have."""


class CallError(LLMEngineError):
    """One call failed; what had arrived by then is kept.

    ``status`` is the HTTP status or None. ``code`` and ``type`` are the server's own words.
    ``retry_after`` is in seconds. ``partial`` holds the text and the usage received before the
    failure. ``attempts`` counts the requests sent for this prompt. ``final`` says that content
    was already handed out, so that another attempt would repeat it.
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
        """Whether the same request, sent again, may succeed.

        501 (Not Implemented) is a permanent answer. A clock that ran out after the request was
        sent is no reason to pay for the same work twice; a connection that was never made is.
        """
        if self.final or self.clock not in (None, "connect"):
            return False
        return self._retryable and self.status != 501  # noqa: PLR2004

    @property
    def usage(self) -> Usage | None:
        """Tokens that were counted before the failure, if the server said so."""
        return self.partial.usage if self.partial is not None else None

    @property
    def label(self) -> str:
        """What kind of failure it was, without a word of the server's or the prompt's."""
        kind = type(self).__name__
        said = f"HTTP {self.status}" if self.status is not None else self.clock
        return f"{kind} ({said})" if said else kind

    def advise(self, advice: str) -> None:
        """Add to the message what the user can do."""
        self.message = f"{self.message}; {advice}"
        self.args = (self.message,)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by message and attributes: keyword-only arguments do not survive the default."""
        return (type(self), (self.message,), self.__dict__.copy())


class APIConnectionError(CallError):
    """The server could not be reached, or the connection broke before the answer was whole."""

    _retryable = True


class APITimeoutError(CallError):
    """A clock ran out: ``clock`` is ``connect``, ``first_token``, ``gap`` or ``total``.

    It is ``cold_start`` where a sleeping server did not wake in time, and nothing was sent.
    """

    _retryable = True


class BadRequestError(CallError):
    """The server refused the request as wrong (400, 413, 415, 422 and other 4xx)."""


class ContextLengthError(BadRequestError):
    """The prompt, with the tokens asked for, does not fit the model's context."""


class AuthenticationError(CallError):
    """The key is missing, wrong, or not allowed to do this (401, 403)."""


class NotFoundError(CallError):
    """The server has no such model or no such route (404)."""


class RateLimitError(CallError):
    """The server asks for fewer requests (429).

    ``clock`` is ``wait`` where it said so to another call, and asks for a longer pause than this
    one was to wait; nothing was sent then.
    """

    _retryable = True


class QuotaError(RateLimitError):
    """The account has nothing left: a 429 that no waiting mends."""

    _retryable = False


class InternalServerError(CallError):
    """The server failed (5xx)."""

    _retryable = True


class UnexpectedResponseError(CallError):
    """The answer is not the protocol's: no JSON, no choices, a redirect, a wrong content type.

    ``cut`` says that the body of a successful answer is empty, cut, damaged or no JSON at all: a
    gateway's failure, as which it is tried again.
    """

    def __init__(self, message: str, *, cut: bool = False, **said: Any) -> None:
        super().__init__(message, **said)
        self.cut = cut

    @property
    def retryable(self) -> bool:
        """Whether the same request, sent again, may bring a whole answer."""
        return self.cut and not self.final

    @property
    def label(self) -> str:
        """What kind of failure it was, without a word of the server's or the prompt's."""
        return f"{super().label}, empty or cut" if self.cut else super().label


class AnswerTooLargeError(CallError):
    """The answer passes one of the engine's limits, and was given up there."""


class StreamIncompleteError(CallError):
    """The stream ended without its terminal event; ``partial`` holds what had arrived."""

    _retryable = True


class StructuredOutputError(CallError):
    """The answer does not fit the output model, after every step of the ladder.

    Or it does not call a tool that ``tool_choice`` demands.
    """


class RefusedError(StructuredOutputError):
    """The model declined to answer, or the content filter did; what came is in ``partial``."""


class TruncatedError(StructuredOutputError):
    """The answer was cut by the token limit before it could fit the output model."""


class WhitespaceLoopError(TruncatedError):
    """The answer ran on in whitespace until it was cut, by the token limit or by us."""


class BatchError(LLMEngineError):
    """At least one prompt failed for good; ``results`` holds every result, in order."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = list(results)
        failed = [(i, r.error) for i, r in enumerate(self.results) if r.error is not None]
        first, error = failed[0]
        message = (
            f"{len(failed)} of {len(self.results)} prompts failed; "
            f"the first is prompt {first}: {type(error).__name__}: {error}. "
            "Every result, answered or not, is in .results."
        )
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.results,))


class HTTPClientError(Exception):
    """What the HTTP client below raised, in its own words; the cause of a CallError."""


def detached(error: E) -> E:
    """The error without the frames of the call, which hold requests, keys and bodies.

    Tools that report errors show what frames hold, and a kept error would keep all of it alive.
    Its causes are treated likewise; those of HTTP clients become an HTTPClientError.
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
    words = HTTPClientError(mask_logins(scrub(f"{kind.__module__}.{kind.__qualname__}: {error}")))
    words.__cause__ = error.__cause__
    return words


def _safe(text: str) -> str:
    return printable(mask_logins(scrub(text)))
