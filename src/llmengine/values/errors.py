"""Everything that can go wrong, as one tree.

LLMEngineError
├── ConfigError              a file, an engine or a field is wrong
│   ├── UnknownEngineError     no engine has that name
│   └── InvalidFieldError      a field does not exist, or its value is wrong
├── InvalidRequestError      a prompt or a parameter is wrong; nothing was sent
│   └── UnknownArgumentError   a call, or its sampling parameters, have no such argument
├── CallError                one call was sent and failed
│   ├── APIConnectionError     no connection, or it broke
│   ├── APITimeoutError        one of the four clocks ran out (``clock`` says which)
│   ├── BadRequestError        400, 413, 415, 422
│   │   └── ContextLengthError   the prompt does not fit the model
│   ├── AuthenticationError    401, 403
│   ├── NotFoundError          404: no such route or model
│   ├── RateLimitError         429
│   │   └── QuotaError           429 that no waiting mends
│   ├── InternalServerError    5xx
│   ├── UnexpectedResponseError  an answer that is not the protocol's
│   ├── StreamIncompleteError  the stream ended without its terminal event
│   └── StructuredOutputError  the answer does not fit the schema
│       ├── RefusedError         the model declined, or the content filter stopped it
│       └── TruncatedError       it was cut by the token limit
│           └── WhitespaceLoopError  it became nothing but whitespace
└── BatchError               at least one prompt of a batch failed; holds every result
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from llmengine.values.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.values.outputs import LLMOutput, Result, Usage


class LLMEngineError(Exception):
    """Base class of all errors raised by llmengine."""


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
        message = scrub(message)
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
    """The server asks for fewer requests (429)."""

    _retryable = True


class QuotaError(RateLimitError):
    """The account has nothing left: a 429 that no waiting mends."""

    _retryable = False


class InternalServerError(CallError):
    """The server failed (5xx)."""

    _retryable = True


class UnexpectedResponseError(CallError):
    """The answer is not the protocol's: no JSON, no choices, a redirect, a wrong content type."""


class StreamIncompleteError(CallError):
    """The stream ended without its terminal event; ``partial`` holds what had arrived."""

    _retryable = True


class StructuredOutputError(CallError):
    """The answer does not fit the output model, after every step of the ladder."""


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
