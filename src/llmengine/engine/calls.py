"""One prompt's call: encode, send, decode, retry; it ends in a Result, whatever happens."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

from llmengine.dialects.failures import failure
from llmengine.engine.climbing import climb
from llmengine.engine.probes import insist
from llmengine.engine.tally import Tally
from llmengine.telemetry.metering import Who, meter
from llmengine.telemetry.tracing import tracing_of
from llmengine.transport.base import HTTPRequest, Posted
from llmengine.transport.readiness import PROBE_TIMEOUT, trouble_at
from llmengine.transport.retries import with_retries
from llmengine.values.errors import (
    AuthenticationError,
    CallError,
    LLMEngineError,
    RateLimitError,
    UnexpectedResponseError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from llmengine.engine.engine import Engine
    from llmengine.transport.background import Background
    from llmengine.transport.base import HTTPReply, Outgoing, Transport
    from llmengine.values.outputs import LLMOutput, Result
    from llmengine.values.request import ChatRequest

T = TypeVar("T")


class Call:
    """What the calls of one engine have in common; lives on the background loop.

    ``url`` is where they go and ``origin`` the server whose pace they keep. ``slots`` is held for
    a call with all its attempts and the waits between them, a slot of the process only for one
    request.
    """

    def __init__(self, engine: Engine, loop: Background, url: str, origin: str) -> None:
        self.engine = engine
        self.loop = loop
        self.url = url
        self._address = engine.sent_to(url)
        self.concurrency = engine.concurrency
        self.slots = loop.slots(engine, self.concurrency)
        self.process_slots = nullcontext() if engine.in_process else loop.process_slots
        self.pace = loop.pace(origin)
        self.readiness = loop.readiness(origin)
        self.account = meter.account(Who(engine.name, engine.model, engine.tariff.currency))
        self.tracing = tracing_of(engine, url)

    @cached_property
    def transport(self) -> Transport:
        """Our own connections, for engines that send through them."""
        return self.loop.transport(self.engine.config.transport)

    def tally(self, request: ChatRequest | None = None) -> Tally:
        """What follows one prompt from its first request to its result; traced if it is given."""
        if self.tracing is None or request is None:
            return Tally(self.account, self.engine.tariff, None)
        span = self.tracing.span(request)
        return Tally(self.account, self.engine.tariff, span)

    async def result(self, request: ChatRequest) -> Result:
        """The prompt's result; only cancellation is raised."""
        async with self.slots:
            with self.tally(request) as tally:
                try:
                    output = await self._answer(request, tally)
                except CallError as error:
                    error.attempts = tally.attempts
                    return tally.close(error=error)
                except LLMEngineError as error:  # a request or an engine that cannot be sent to
                    return tally.close(error=error)
                except Exception as error:  # noqa: BLE001 - one prompt's bug must not lose the batch
                    return tally.close(error=unforeseen(error))
                return tally.close(output)

    async def _answer(self, request: ChatRequest, tally: Tally) -> LLMOutput:
        if request.output_model is None:
            await insist(self, request)
            return await self.exchange(request, tally)
        return await climb(self, request, tally)

    async def exchange(
        self, request: ChatRequest, tally: Tally, max_retries: int | None = None
    ) -> LLMOutput:
        """The answer to one request, in as many attempts as it takes; each is counted."""

        async def once() -> LLMOutput:
            try:
                output = await self._attempt(request, tally)
            except CallError as error:
                tally.failed(error)
                raise
            tally.answered(output.usage)
            return output

        limit = self.engine.config.max_retries if max_retries is None else max_retries
        return await with_retries(self.when_awake(once), limit, self.engine.config.retry_wait)

    def when_awake(self, once: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
        """The attempt `once`, made when the engine is ready and its server awake.

        The wait is no part of the attempt, so that it takes nothing of its clocks.
        """
        config = self.engine.config
        if config.cold_start is None:
            return partial(self._when_ready, once)
        total = min(PROBE_TIMEOUT, config.cold_start)
        knock = HTTPRequest(
            self.engine.sent_to(self.engine.base_url + "/models"),
            self.engine.headers,
            b"",
            self.engine.clocks.connect,
            total,
            method="GET",
        )
        probe = partial(trouble_at, self.transport, knock)
        return partial(self.readiness.attempt, once, probe, config.cold_start)

    async def _when_ready(self, once: Callable[[], Awaitable[T]]) -> T:
        await self.engine.ready(self)
        return await once()

    async def _attempt(self, request: ChatRequest, tally: Tally) -> LLMOutput:
        engine = self.engine
        outgoing = engine.outgoing(self, request)
        tally.attempt()
        reply = await self.send(outgoing)
        if reply.status != 200:  # noqa: PLR2004 - the one success of these protocols
            raise self.refusal(reply.status, reply.headers, reply.body)
        return engine.dialect.decode(reply.body, request)

    async def send(self, outgoing: Outgoing) -> HTTPReply:
        """Send one request when it is its turn; the answer, whatever its status."""
        await self.pace.turn(self.engine.config.requests_per_minute)
        async with self.process_slots:
            return await outgoing.fetch()

    def raw(self, body: bytes) -> Outgoing:
        """A request with a body that is sent as it is, over our own connections."""
        clocks, headers = self.engine.clocks, self.engine.headers
        http = HTTPRequest(self._address, headers, body, clocks.connect, clocks.total)
        return Posted(self.transport, http)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> CallError:
        """The error behind a status; a 429 cools everybody at this endpoint."""
        error = failure(status, headers, body)
        if isinstance(error, RateLimitError) and error.retryable:
            # A 429 without Retry-After still means: not now, none of you.
            self.pace.cool(max(error.retry_after or 0.0, self.engine.config.retry_wait))
        if isinstance(error, AuthenticationError):
            error.advise(self.engine.key_advice)
        return error


def unforeseen(error: Exception) -> CallError:
    """A bug of ours as the result of the one prompt that met it."""
    wrapped = UnexpectedResponseError(
        f"the call failed in a way nobody foresaw: {type(error).__name__}: {error}"
    )
    wrapped.__cause__ = error
    return wrapped
