"""One call of an engine: each request is encoded, sent, retried, decoded and counted."""

from __future__ import annotations

import asyncio
import sys
import traceback
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from llmengine.dialects.errors import refuses_reasoning
from llmengine.telemetry.usage import meter
from llmengine.types.errors import (
    APIConnectionError,
    BadRequestError,
    CallError,
    LLMEngineError,
    UnexpectedResponseError,
    detached,
)
from llmengine.types.results import Result
from llmengine.types.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llmengine.backends.base import Backend
    from llmengine.backends.connection import Connection
    from llmengine.telemetry.otel import ChatSpan, Tracing
    from llmengine.telemetry.pricing import Tariff
    from llmengine.telemetry.usage import Account
    from llmengine.transport.base import HTTPReply
    from llmengine.transport.limiter import Permit
    from llmengine.types.outputs import LLMOutput, Usage
    from llmengine.types.request import ChatRequest


T = TypeVar("T")
_OK = 200  # an answer that is cut or cannot be read has this status too
_LARGE_BODY = 2**20


class CallObserver(Protocol):
    """Is told what happens to one call, on the background loop."""

    def sent(self) -> None:
        """A request is about to be sent."""
        ...

    def cancelled(self, result: Result) -> None:
        """The call was cancelled; the result says what it has spent."""
        ...


class CallUsage:
    """Counts the requests of one prompt and their usage, and traces them if tracing is on.

    Its methods are called for every request that is sent for the prompt, and `close` makes the
    result. If the ``with`` block is left without `close`, the call is counted as cancelled.
    """

    __slots__ = (
        "_account",
        "_closed",
        "_engine",
        "_observer",
        "_refused_attempts",
        "_started",
        "_tariff",
        "_usages",
        "attempts",
        "span",
    )

    def __init__(
        self,
        engine: str,
        account: Account,
        tariff: Tariff | None,
        span: ChatSpan | None,
        observer: CallObserver | None = None,
    ) -> None:
        self.attempts = 0
        self.span = span
        self._engine = engine
        self._observer = observer
        self._account = account
        self._tariff = tariff
        self._usages: tuple[Usage, ...] = ()  # a list would be one more object per request
        self._refused_attempts = 0  # refused requests, for which nothing was generated
        self._closed = False
        self._started = account.begin()

    def attempt(self) -> None:
        """A request is about to be sent."""
        self.attempts += 1
        if self.span is not None:
            self.span.attempt(self.attempts)
        if self._observer is not None:
            self._observer.sent()

    def answered(self, usage: Usage | None) -> None:
        """The request was answered; `usage` is what the server reported, if anything."""
        if usage is not None:
            self._usages += (usage,)

    def failed(self, error: CallError) -> None:
        """The request failed."""
        if error.usage is not None:
            self._usages += (error.usage,)
        elif _refused(error):
            self._refused_attempts += 1
        if self.span is not None:
            self.span.attempt_failed(self.attempts, error)

    def content(self) -> None:
        """Generated content has arrived."""
        if self.span is not None:
            self.span.content()

    @property
    def usage(self) -> Usage | None:
        """The sum of the known usage; None if none is known."""
        return sum(self._usages[1:], self._usages[0]) if self._usages else None

    def close(self, output: LLMOutput | None = None, error: LLMEngineError | None = None) -> Result:
        """Make the prompt's result, count it in the account and end the span."""
        return self._close(output, error, cancelled=False)

    def _close(
        self, output: LLMOutput | None, error: LLMEngineError | None, *, cancelled: bool
    ) -> Result:
        self._closed = True
        uncounted = self.attempts - len(self._usages) - self._refused_attempts
        seconds = self._account.end(self._started)
        cost = currency = None
        if self._tariff is not None:
            cost = self._tariff.cost(self._usages, uncounted, seconds)
            currency = None if cost is None else self._tariff.currency
        result = Result(
            output, error, self.attempts, self.usage, cost, uncounted, currency, self._engine
        )
        self._account.add(result, cancelled=cancelled)
        if self.span is not None:
            self.span.end(result, cancelled=cancelled)
        return result

    def __enter__(self) -> Self:
        if self.span is not None:
            self.span.enter()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if not self._closed:
            error = CallError("the caller cancelled the call")
            result = self._close(None, error, cancelled=True)
            if self._observer is not None:
                self._observer.cancelled(result)
        if self.span is not None:
            self.span.leave()


def _refused(error: CallError) -> bool:
    """Whether nothing can have been generated: no connection, or a refusal before any content."""
    if error.clock == "connect" or (isinstance(error, APIConnectionError) and not error.connected):
        return True
    begun = error.partial.outputs if error.partial is not None else ()
    content = any(o.text or o.reasoning or o.tool_calls for o in begun)
    refused = error.status not in {None, _OK} or isinstance(error, BadRequestError)
    return refused and not content


class Call:
    """One call of an engine, for one prompt or for many; used on the background loop only.

    A slot of ``slots`` is held for a prompt with all its attempts and the waits between them; a
    permit, which the limits of the server and of the process allow, is held for one attempt only.
    """

    def __init__(self, backend: Backend, connection: Connection) -> None:
        self.backend = backend
        self.config = config = backend.config
        self.connection = connection
        self.slots = connection.loop.slots(backend, backend.concurrency)
        self._tariff = backend.tariff
        self._account = meter.account(backend.account)
        self.tracing = tracing_of(config.name, config.model, backend.name, connection.urls.chat)

    def usage(
        self, request: ChatRequest | None = None, observer: CallObserver | None = None
    ) -> CallUsage:
        """The counter of one prompt, from request to result; traced if the request is given."""
        span = None if self.tracing is None or request is None else self.tracing.span(request)
        return CallUsage(self.config.name, self._account, self._tariff, span, observer)

    # Each coroutine of a request that waits costs memory and time of the garbage collector. So the
    # methods that only pass on the result of another one return its coroutine.

    def exchange(
        self, request: ChatRequest, usage: CallUsage, max_retries: int | None = None
    ) -> Awaitable[LLMOutput]:
        """The answer to one request, with retries; each attempt is counted."""
        if request.reasoning is None:
            return self._exchange(request, usage, max_retries)
        send = partial(self._exchange, usage=usage, max_retries=max_retries)
        return self.with_or_without_reasoning(request, send)

    async def with_or_without_reasoning(
        self, request: ChatRequest, send: Callable[[ChatRequest], Awaitable[T]]
    ) -> T:
        """The result of `send`; it is called again without reasoning if the server refuses that."""
        if request.reasoning is None:
            return await send(request)
        if not self.backend.refuses_reasoning:
            try:
                return await send(request)
            except BadRequestError as error:
                if error.final or not refuses_reasoning(error):
                    raise
                self.backend.refuses_reasoning = True
                if request.reasoning not in {False, "none"}:
                    warn_of_reasoning(self.backend, f"model {request.model!r}", request.reasoning)
        return await send(replace(request, reasoning=None))

    def _exchange(
        self, request: ChatRequest, usage: CallUsage, max_retries: int | None
    ) -> Awaitable[LLMOutput]:
        once = partial(self._attempt, request, usage)
        size = self.connection.size_of(request)
        return self.connection.retried(once, max_retries, size)

    async def _attempt(self, request: ChatRequest, usage: CallUsage, permit: Permit) -> LLMOutput:
        backend, connection = self.backend, self.connection
        try:
            outgoing = backend.outgoing(connection, request)
            usage.attempt()
            reply = await connection.send(outgoing, permit)
            output = await self._read(reply, request)
        except Exception as raised:  # noqa: BLE001 - raised as an LLMEngineError
            error = as_llm_error(raised)
            if isinstance(error, CallError):
                usage.failed(error)
                await backend.explain(connection, error)
            raise error from error.__cause__
        self.note_answer(output, usage, permit)
        return output

    async def _read(self, reply: HTTPReply, request: ChatRequest) -> LLMOutput:
        backend, connection = self.backend, self.connection
        if reply.status != _OK:
            raise connection.refusal(reply.status, reply.headers, reply.body)
        if len(reply.body) > _LARGE_BODY:  # decoding would block the loop for too long
            output = await asyncio.to_thread(backend.dialect.decode, reply.body, request)
        else:
            output = backend.dialect.decode(reply.body, request)
        await backend.check_answer(connection, request, output)
        return output

    def note_answer(self, output: LLMOutput, usage: CallUsage, permit: Permit) -> None:
        """Count the answer to a request; log once which parts of it could not be read."""
        usage.answered(output.usage)
        permit.count(output.usage)
        if output.warnings:
            self.backend.warn_once("unreadable parts", "%s", "; ".join(output.warnings))


def tracing_of(engine: str, model: str, backend: str, url: str) -> Tracing | None:
    """The Tracing of an engine, given by name; None while no provider is set.

    A program that has set a provider has imported OpenTelemetry. So if the module is not loaded,
    no traces are wanted, and it does not need to be imported here.
    """
    if sys.modules.get("opentelemetry") is None:
        return None
    from llmengine.telemetry.otel import tracing  # noqa: PLC0415 - needs opentelemetry

    return tracing(engine, model, backend, url)


def warn_of_reasoning(backend: Backend, subject: str, wanted: bool | str) -> None:
    """Log, once per engine, that a reasoning setting is left out."""
    backend.warn_once(
        "reasoning",
        "%s has no reasoning; the setting %r is left out",
        subject,
        wanted,
    )


def as_llm_error(error: Exception) -> LLMEngineError:
    """The error if it is an LLMEngineError, else an LLMEngineError that wraps it."""
    return error if isinstance(error, LLMEngineError) else internal_error(error)


def internal_error(error: Exception) -> CallError:
    """The error for a bug in this library, which becomes the result of the one prompt."""
    wrapped = UnexpectedResponseError(
        f"the call failed with an unexpected error: {type(error).__name__}: {error}"
    )
    wrapped.add_note(scrub("".join(traceback.format_exception(error))))
    wrapped.__cause__ = error
    return detached(wrapped)
