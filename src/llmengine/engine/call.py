"""The calls of an engine: one prompt from request to result, and many prompts at once.

A call encodes the request, sends it, decodes the answer and retries if need be. It always ends in
a Result. Many prompts are run by a few workers, not by one task per prompt.
"""

from __future__ import annotations

import asyncio
import traceback
from asyncio import TaskGroup
from collections import deque
from contextlib import nullcontext
from functools import cached_property, partial
from math import inf
from typing import TYPE_CHECKING, Self, TypeVar

from llmengine.dialects.errors import failure
from llmengine.engine.structured import generate_structured, require_enforcement
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
from llmengine.types.results import Result
from llmengine.types.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        AsyncIterator,
        Awaitable,
        Callable,
        Iterable,
        Mapping,
    )
    from concurrent.futures import Future

    from llmengine.engine.engine import Engine
    from llmengine.engine.sync import Wait
    from llmengine.telemetry.otel import ChatSpan
    from llmengine.telemetry.pricing import Tariff
    from llmengine.telemetry.usage import Account
    from llmengine.transport.base import HTTPReply, Outgoing, Transport
    from llmengine.transport.loop import Background
    from llmengine.types.outputs import LLMOutput, Usage
    from llmengine.types.request import ChatRequest, Prompt


T = TypeVar("T")
_OK = 200  # an answer that broke off or cannot be read has this status too
_LARGE = 2**20


class CallUsage:
    """Counts the requests of one prompt and their usage, and traces them if traces are wanted.

    Every request that is sent for the prompt is reported to it, and `close` makes the result. If
    the ``with`` block is left without `close`, the call was cancelled and is counted as cancelled.
    """

    __slots__ = ("_account", "_begun", "_closed", "_free", "_spent", "_tariff", "attempts", "span")

    def __init__(self, account: Account, tariff: Tariff, span: ChatSpan | None) -> None:
        self.attempts = 0
        self.span = span
        self._account = account
        self._tariff = tariff
        self._spent: list[Usage] = []
        self._free = 0  # refused requests, for which nothing was generated
        self._closed = False
        self._begun = account.begin()

    def attempt(self) -> None:
        """A request is about to be sent."""
        self.attempts += 1
        if self.span is not None:
            self.span.attempt(self.attempts)

    def answered(self, usage: Usage | None) -> None:
        """The request was answered; `usage` is what the server reported, if anything."""
        if usage is not None:
            self._spent.append(usage)

    def failed(self, error: CallError) -> None:
        """The request failed."""
        if error.usage is not None:
            self._spent.append(error.usage)
        elif _refused(error):
            self._free += 1
        if self.span is not None:
            self.span.attempt_failed(self.attempts, error)

    def content(self) -> None:
        """Generated content has arrived."""
        if self.span is not None:
            self.span.content()

    @property
    def usage(self) -> Usage | None:
        """The sum of the usage that is known; None if none is known."""
        return sum(self._spent[1:], self._spent[0]) if self._spent else None

    def close(self, output: LLMOutput | None = None, error: LLMEngineError | None = None) -> Result:
        """Make the prompt's result, count it in the account and end the span."""
        return self._close(output, error, cancelled=False)

    def _close(
        self, output: LLMOutput | None, error: LLMEngineError | None, *, cancelled: bool
    ) -> Result:
        self._closed = True
        uncounted = self.attempts - len(self._spent) - self._free
        seconds = self._account.end(self._begun)
        cost = self._tariff.cost(self._spent, uncounted, seconds)
        currency = None if cost is None else self._tariff.currency
        result = Result(output, error, self.attempts, self.usage, cost, uncounted, currency)
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
            self._close(None, CallError("the caller gave the call up"), cancelled=True)
        if self.span is not None:
            self.span.leave()


def _refused(error: CallError) -> bool:
    """Whether nothing can have been generated: no connection, or a refusal before any content."""
    if error.clock == "connect":
        return True
    begun = error.partial.outputs if error.partial is not None else ()
    content = any(o.text or o.reasoning or o.tool_calls for o in begun)
    refused = error.status not in {None, _OK} or isinstance(error, BadRequestError)
    return refused and not content


class Call:
    """The parts that the calls of one engine share; used on the background loop only.

    ``url`` is the address that requests are sent to; ``origin`` is the server by which pauses and
    limits are shared. A slot of ``slots`` is held for a whole call, with all its attempts and the
    waits between them; a slot of the process is held for one request only.
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
        """The HTTP connections of this library, for engines that send through them."""
        return self.loop.transport(self.engine.config.transport)

    def tally(self, request: ChatRequest | None = None) -> CallUsage:
        """The counter of one prompt, from request to result; traced if the request is given."""
        if self.tracing is None or request is None:
            return CallUsage(self.account, self.engine.tariff, None)
        span = self.tracing.span(request)
        return CallUsage(self.account, self.engine.tariff, span)

    async def result(self, request: ChatRequest) -> Result:
        """The prompt's result, whether it succeeded or failed; only cancellation is raised."""
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

    async def _answer(self, request: ChatRequest, tally: CallUsage) -> LLMOutput:
        if request.output_model is None:
            await require_enforcement(self, request)
            output = await self.exchange(request, tally)
            refuse_uncalled(output, request)
            return output
        return await generate_structured(self, request, tally)

    async def exchange(
        self, request: ChatRequest, tally: CallUsage, max_retries: int | None = None
    ) -> LLMOutput:
        """The answer to one request, with retries; each attempt is counted."""
        if request.reasoning is None:
            return await self._exchange(request, tally, max_retries)
        send = partial(self._exchange, tally=tally, max_retries=max_retries)
        return await self.with_or_without_reasoning(request, send)

    async def with_or_without_reasoning(
        self, request: ChatRequest, send: Callable[[ChatRequest], Awaitable[T]]
    ) -> T:
        """The answer of `send`, which is asked again without reasoning if that is refused."""
        request = self.engine.without_refused_reasoning(request)
        try:
            return await send(request)
        except BadRequestError as error:
            if not self.engine.notes_refused_reasoning(request, error):
                raise
        return await send(self.engine.without_refused_reasoning(request))

    async def _exchange(
        self, request: ChatRequest, tally: CallUsage, max_retries: int | None
    ) -> LLMOutput:
        async def once() -> LLMOutput:
            try:
                output = await self._attempt(request, tally)
            except Exception as raised:  # noqa: BLE001 - raised as an LLMEngineError
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
        """The value of `once`, with up to `max_retries` retries, each made when it is allowed."""
        first_wait = self.engine.config.retry_wait
        attempt = self.when_awake(once, queued=True)
        return await with_retries(attempt, max_retries, first_wait, self.patience)

    def when_awake(
        self, once: Callable[[], Awaitable[T]], *, queued: bool = False
    ) -> Callable[[], Awaitable[T]]:
        """Wrap the attempt `once`, so that it waits until it may be made.

        It waits until the engine is ready, its server is awake and the call has its turn. The wait
        is not part of the attempt, so it does not count against the attempt's time limits.
        ``queued`` is for chats, which the server may put into a queue of its own.
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

    async def _attempt(self, request: ChatRequest, tally: CallUsage) -> LLMOutput:
        engine = self.engine
        outgoing = engine.outgoing(self, request)
        tally.attempt()
        reply = await self.send(outgoing)
        if reply.status != 200:  # noqa: PLR2004 - the only status of success
            raise self.refusal(reply.status, reply.headers, reply.body)
        if len(reply.body) > _LARGE:  # decoding takes a while, so the loop must not wait for it
            output = await asyncio.to_thread(engine.dialect.decode, reply.body, request)
        else:
            output = engine.dialect.decode(reply.body, request)
        await engine.check_answer(self, request, output)
        return output

    async def send(self, outgoing: Outgoing) -> HTTPReply:
        """Send one request and return the answer, whatever its status."""
        async with self.process_slots:
            reply = await outgoing.fetch()
        if not self.engine.in_process:
            self.engine.config.limits.hold_values(reply.body)
        return reply

    def raw(self, body: bytes) -> Outgoing:
        """A request whose body is sent unchanged, over the HTTP connections of this library."""
        clocks, headers, limits = self.engine.clocks, self.engine.headers, self.engine.config.limits
        http = HTTPRequest(
            self._address, headers, body, clocks.connect, clocks.total, limits=limits
        )
        return Posted(self.transport, http)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> CallError:
        """The error for a status; a 429 pauses all calls with the same address and key.

        A 429 that asks for a longer pause than this call itself would wait pauses no other call,
        so that a single odd answer cannot stop all calls for a day: the next call asks again.
        """
        error = failure(status, headers, body)
        if isinstance(error, RateLimitError) and error.retryable:
            # A 429 without Retry-After pauses the other calls too.
            pause = max(error.retry_after or 0.0, self.engine.config.retry_wait)
            if pause <= self.patience:
                self.pace.cool(pause)
        if isinstance(error, AuthenticationError):
            error.advise(self.engine.key_advice)
        return error


def patience_of(engine: Engine) -> float:
    """The longest pause, in seconds, that a call accepts from a server before one attempt."""
    wait = engine.clocks.wait
    return inf if wait is None else wait


def ours(error: Exception) -> LLMEngineError:
    """The error itself if it is an LLMEngineError, else an LLMEngineError that stands for it."""
    return error if isinstance(error, LLMEngineError) else internal_error(error)


def internal_error(error: Exception) -> CallError:
    """The error for a bug of this library, as the result of the one prompt that met it."""
    wrapped = UnexpectedResponseError(
        f"the call failed in a way nobody foresaw: {type(error).__name__}: {error}"
    )
    wrapped.add_note(scrub("".join(traceback.format_exception(error))))
    wrapped.__cause__ = error
    return detached(wrapped)


async def run_batch(call: Call, jobs: list[ChatRequest | LLMEngineError]) -> list[Result]:
    """One result per job, in order; a job that is already an error becomes its own result."""
    results: list[Result | None] = [None] * len(jobs)
    waiting = iter(enumerate(jobs))

    async def worker() -> None:
        for place, job in waiting:
            results[place] = await run_job(call, job)

    async with TaskGroup() as group:
        for _ in range(min(len(jobs), call.concurrency)):
            group.create_task(worker())
    return [result for result in results if result is not None]


async def run_job(call: Call, job: ChatRequest | LLMEngineError) -> Result:
    """The result of one job."""
    if isinstance(job, LLMEngineError):
        return Result(error=job, attempts=0, cost=0.0)
    return await call.result(job)


async def run_window(
    prompts: Iterable[Prompt] | AsyncIterable[Prompt],
    start: Callable[[Prompt, int], Future[Result]],
    wait: Wait,
    size: int,
) -> AsyncGenerator[Result, None]:
    """Results in order, for any number of prompts: at most `size` are started and not yet read.

    The prompts are drawn in the caller's own thread or task, one by one, as results are read.
    """
    started: deque[Future[Result]] = deque()
    place = 0
    try:
        async for prompt in _drawn(prompts):
            started.append(start(prompt, place))
            place += 1
            if len(started) >= size:
                yield await wait(started.popleft())
        while started:
            yield await wait(started.popleft())
    finally:
        for future in started:
            future.cancel()


async def _drawn(prompts: Iterable[Prompt] | AsyncIterable[Prompt]) -> AsyncIterator[Prompt]:
    if hasattr(prompts, "__aiter__"):
        async for prompt in prompts:
            yield prompt
    else:
        for prompt in prompts:
            yield prompt
