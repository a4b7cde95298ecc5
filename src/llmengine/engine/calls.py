"""One prompt's call: encode, send, decode, retry; it ends in a Result, whatever happens."""

from __future__ import annotations

import asyncio
import traceback
from contextlib import nullcontext
from functools import cached_property, partial
from math import inf
from typing import TYPE_CHECKING, TypeVar

from llmengine.dialects.errors import failure
from llmengine.engine.climbing import climb
from llmengine.engine.probes import insist
from llmengine.engine.tally import Tally
from llmengine.structured.validation import refuse_uncalled
from llmengine.telemetry.tracing import tracing_of
from llmengine.telemetry.usage import Who, meter
from llmengine.transport.base import HTTPRequest, Posted
from llmengine.transport.cold_start import PROBE_TIMEOUT, trouble_at
from llmengine.transport.policies import with_retries
from llmengine.types.errors import (
    AuthenticationError,
    BadRequestError,
    CallError,
    LLMEngineError,
    RateLimitError,
    UnexpectedResponseError,
    detached,
)
from llmengine.types.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from llmengine.engine.engine import Engine
    from llmengine.transport.base import HTTPReply, Outgoing, Transport
    from llmengine.transport.loop import Background
    from llmengine.types.outputs import LLMOutput, Result
    from llmengine.types.request import ChatRequest

T = TypeVar("T")

_LARGE = 2**20


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
        self.pace = loop.pace(origin, engine.credential)
        self.patience = patience_of(engine)
        self.readiness = loop.readiness(origin)
        self.queue = loop.queue(origin, engine.model)
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
                except Exception as raised:  # noqa: BLE001 - one prompt's bug must not lose the batch
                    error = ours(raised)
                    if isinstance(error, CallError):
                        error.attempts = tally.attempts
                    return tally.close(error=detached(error))
                return tally.close(output)

    async def _answer(self, request: ChatRequest, tally: Tally) -> LLMOutput:
        if request.output_model is None:
            await insist(self, request)
            output = await self.exchange(request, tally)
            refuse_uncalled(output, request)
            return output
        return await climb(self, request, tally)

    async def exchange(
        self, request: ChatRequest, tally: Tally, max_retries: int | None = None
    ) -> LLMOutput:
        """The answer to one request, in as many attempts as it takes; each is counted."""
        if request.reasoning is None:
            return await self._exchange(request, tally, max_retries)
        send = partial(self._exchange, tally=tally, max_retries=max_retries)
        return await self.with_or_without_reasoning(request, send)

    async def with_or_without_reasoning(
        self, request: ChatRequest, send: Callable[[ChatRequest], Awaitable[T]]
    ) -> T:
        """What `send` gives, asked again without reasoning if the server refuses that."""
        request = self.engine.without_refused_reasoning(request)
        try:
            return await send(request)
        except BadRequestError as error:
            if not self.engine.notes_refused_reasoning(request, error):
                raise
        return await send(self.engine.without_refused_reasoning(request))

    async def _exchange(
        self, request: ChatRequest, tally: Tally, max_retries: int | None
    ) -> LLMOutput:
        async def once() -> LLMOutput:
            try:
                output = await self._attempt(request, tally)
            except Exception as raised:  # noqa: BLE001 - raised as ours
                error = ours(raised)
                if isinstance(error, CallError):
                    tally.failed(error)
                    await self.engine.explain(self, error)
                raise error from error.__cause__
            tally.answered(output.usage)
            self.engine.tell_unread(output.warnings)
            return output

        limit = self.engine.config.max_retries if max_retries is None else max_retries
        return await self.retried(once, limit)

    async def retried(self, once: Callable[[], Awaitable[T]], max_retries: int) -> T:
        """What `once` gives, in as many attempts as the engine makes, each when it may be made."""
        first_wait = self.engine.config.retry_wait
        attempt = self.when_awake(once, queued=True)
        return await with_retries(attempt, max_retries, first_wait, self.patience)

    def when_awake(
        self, once: Callable[[], Awaitable[T]], *, queued: bool = False
    ) -> Callable[[], Awaitable[T]]:
        """The attempt `once`, made when the engine is ready, its server awake, and it is its turn.

        The wait is no part of the attempt, so that it takes nothing of its clocks. ``queued`` is
        for chats, which the server may let wait in a queue of its own.
        """
        config = self.engine.config
        in_turn = partial(self._queued if queued else self._in_turn, once)
        if config.cold_start is None:
            return partial(self._when_ready, in_turn)
        total = min(PROBE_TIMEOUT, config.cold_start)
        knock = HTTPRequest(
            self.engine.sent_to(self.engine.base_url + "/models"),
            self.engine.headers,
            b"",
            self.engine.clocks.connect,
            total,
            method="GET",
            limits=config.limits,
        )
        probe = partial(trouble_at, self.transport, knock)
        return partial(self.readiness.attempt, in_turn, probe, config.cold_start)

    async def _when_ready(self, once: Callable[[], Awaitable[T]]) -> T:
        await self.engine.ready(self)
        return await once()

    async def _turn(self) -> None:
        await self.pace.turn(self.engine.config.requests_per_minute, self.patience)

    async def _in_turn(self, once: Callable[[], Awaitable[T]]) -> T:
        await self._turn()
        return await once()

    async def _queued(self, once: Callable[[], Awaitable[T]]) -> T:
        return await self.queue.attempt(once, self._turn, again=self.engine.queues_calls)

    async def _attempt(self, request: ChatRequest, tally: Tally) -> LLMOutput:
        engine = self.engine
        outgoing = engine.outgoing(self, request)
        tally.attempt()
        reply = await self.send(outgoing)
        if reply.status != 200:  # noqa: PLR2004 - the one success of these protocols
            raise self.refusal(reply.status, reply.headers, reply.body)
        if len(reply.body) > _LARGE:  # reading it takes a while, in which others get their turn
            output = await asyncio.to_thread(engine.dialect.decode, reply.body, request)
        else:
            output = engine.dialect.decode(reply.body, request)
        await engine.check_answer(self, request, output)
        return output

    async def send(self, outgoing: Outgoing) -> HTTPReply:
        """Send one request; the answer, whatever its status."""
        async with self.process_slots:
            reply = await outgoing.fetch()
        if not self.engine.in_process:
            self.engine.config.limits.hold_values(reply.body)
        return reply

    def raw(self, body: bytes) -> Outgoing:
        """A request with a body that is sent as it is, over our own connections."""
        clocks, headers, limits = self.engine.clocks, self.engine.headers, self.engine.config.limits
        http = HTTPRequest(
            self._address, headers, body, clocks.connect, clocks.total, limits=limits
        )
        return Posted(self.transport, http)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> CallError:
        """The error behind a status; a 429 pauses everybody with this address and key.

        One that asks for longer than this call would wait itself pauses nobody, so that a single
        odd answer cannot stop all calls of a day: the next call asks anew.
        """
        error = failure(status, headers, body)
        if isinstance(error, RateLimitError) and error.retryable:
            # A 429 without Retry-After still means: not now, none of you.
            pause = max(error.retry_after or 0.0, self.engine.config.retry_wait)
            if pause <= self.patience:
                self.pace.cool(pause)
        if isinstance(error, AuthenticationError):
            error.advise(self.engine.key_advice)
        return error


def patience_of(engine: Engine) -> float:
    """How many seconds a call waits before one attempt because the server asks for it."""
    wait = engine.clocks.wait
    return inf if wait is None else wait


def ours(error: Exception) -> LLMEngineError:
    """The error as it is if it is one of ours, else ours for it."""
    return error if isinstance(error, LLMEngineError) else unforeseen(error)


def unforeseen(error: Exception) -> CallError:
    """A bug of ours as the result of the one prompt that met it."""
    wrapped = UnexpectedResponseError(
        f"the call failed in a way nobody foresaw: {type(error).__name__}: {error}"
    )
    wrapped.add_note(scrub("".join(traceback.format_exception(error))))
    wrapped.__cause__ = error
    return detached(wrapped)
