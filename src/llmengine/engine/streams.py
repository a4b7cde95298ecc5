"""One streamed answer: bytes in, deltas out, with every clock kept."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, TypeVar

from pydantic_core import from_json

from llmengine.dialects.failures import stream_failure
from llmengine.dialects.quote import quote
from llmengine.engine.calls import Call, unforeseen
from llmengine.engine.climbing import climb_stream
from llmengine.engine.probes import insist
from llmengine.structured.checking import whitespace_loop
from llmengine.structured.whitespace import WhitespaceWatch
from llmengine.transport.clocks import StreamClock
from llmengine.transport.retries import with_retries
from llmengine.values.errors import CallError, LLMEngineError, UnexpectedResponseError
from llmengine.values.outputs import Delta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from llmengine.dialects.base import StreamDecoder
    from llmengine.engine.engine import Engine
    from llmengine.engine.tally import Tally
    from llmengine.transport.background import Background
    from llmengine.transport.base import HTTPStream
    from llmengine.values.outputs import LLMOutput
    from llmengine.values.request import ChatRequest

T = TypeVar("T")

# Deltas that may wait for a slow reader before the server is held up in turn.
_AHEAD = 256


@dataclass(frozen=True, slots=True)
class End:
    """The stream is over: as it should be, or by an error."""

    error: BaseException | None = None


class Pump:
    """Fetches one streamed answer on the background loop and queues its deltas."""

    def __init__(self, engine: Engine, request: ChatRequest) -> None:
        self._engine = engine
        self._request = request
        self._queue: asyncio.Queue[Delta | End] = asyncio.Queue(_AHEAD)
        self._delivered = False
        self._watches: defaultdict[int, WhitespaceWatch] | None = None  # of structured answers

    async def run(self, loop: Background, url: str, origin: str) -> None:
        """Queue every delta, then an End."""
        call = Call(self._engine, loop, url, origin)
        async with call.slots:
            with call.tally(self._request) as tally:
                end = await self._pump(call, tally)
        await self._queue.put(end)

    async def _pump(self, call: Call, tally: Tally) -> End:
        try:
            if self._request.output_model is None:
                await insist(call, self._request)
                output = await self._exchange(call, self._request, tally)
            else:
                output = await self._structured(call, tally)
        except LLMEngineError as error:
            tally.close(error=error)
            return End(error)
        except Exception as error:  # noqa: BLE001 - raised again where the deltas are read
            tally.close(error=unforeseen(error))
            return End(error)
        tally.close(output)
        return End()

    async def take(self) -> list[Delta | End]:
        """Whatever is there, at least one item: a hop between threads for many deltas."""
        items = [await self._queue.get()]
        while not self._queue.empty():
            items.append(self._queue.get_nowait())
        return items

    async def _structured(self, call: Call, tally: Tally) -> LLMOutput:
        """Queue the deltas of a structured answer and, once it is seen to fit, what it means."""
        self._watches = defaultdict(WhitespaceWatch)
        output = await climb_stream(call, self._request, lambda r: self._exchange(call, r, tally))
        for answer in output.outputs:
            await self._queue.put(Delta(index=answer.index, parsed=answer.parsed))
        return output

    async def _exchange(self, call: Call, request: ChatRequest, tally: Tally) -> LLMOutput:
        config = self._engine.config
        attempt = call.when_awake(lambda: self._attempt(call, request, tally))
        return await with_retries(attempt, config.max_retries, config.retry_wait)

    async def _attempt(self, call: Call, request: ChatRequest, tally: Tally) -> LLMOutput:
        decoder = self._engine.dialect.decoder(request)
        try:
            output = await self._fetch(call, request, decoder, tally)
        except CallError as error:
            if error.partial is None:
                error.partial = decoder.partial
            # What the caller has read cannot be taken back; a second attempt would repeat it.
            error.final = error.final or self._delivered
            tally.failed(error)
            raise
        tally.answered(output.usage)
        return output

    async def _fetch(
        self, call: Call, request: ChatRequest, decoder: StreamDecoder, tally: Tally
    ) -> LLMOutput:
        engine = self._engine
        clocks = engine.clocks
        now = asyncio.get_running_loop().time
        await call.pace.turn(engine.config.requests_per_minute)
        tally.attempt()
        async with call.process_slots, AsyncExitStack() as stack:
            clock = StreamClock(now(), clocks.first_token, clocks.gap, clocks.total)
            opening = stack.enter_async_context(engine.outgoing(call, request).stream())
            reply = await _within(clock, opening)
            if reply.status != 200:  # noqa: PLR2004 - the one success of these protocols
                body = await _within(clock, _whole(reply.chunks))
                raise call.refusal(reply.status, reply.headers, body)
            if engine.dialect.stream_type not in reply.headers.get("Content-Type", "").lower():
                body = await _within(clock, _whole(reply.chunks))
                raise self._no_stream(reply, body)
            while (chunk := await _within(clock, anext(reply.chunks, None))) is not None:
                await self._deliver(deltas := decoder.feed(chunk), clock, tally)
                if self._watches is not None and self._loops(deltas):
                    raise whitespace_loop(decoder.partial)
        return decoder.finish()

    async def _deliver(self, deltas: list[Delta], clock: StreamClock, tally: Tally) -> None:
        has_content = any(delta.has_content for delta in deltas)
        if has_content:
            tally.content()
        for delta in deltas:
            self._delivered = self._delivered or delta.has_content
            await self._queue.put(delta)
        if has_content:
            clock.content(asyncio.get_running_loop().time())

    def _loops(self, deltas: list[Delta]) -> bool:
        """Whether an answer has become nothing but whitespace; leaving the stream hangs up."""
        assert self._watches is not None
        return any(self._watches[d.index].loops(d.text) for d in deltas)

    def _no_stream(self, reply: HTTPStream, body: bytes) -> CallError:
        """A stream was asked for and something else came; a whole answer is kept as partial."""
        if (said := _error_in(body)) is not None:
            return said
        partial = None
        with suppress(CallError):
            partial = self._engine.dialect.decode(body, self._request)
        found = reply.headers.get("Content-Type", "no content type")
        msg = f"asked for a stream ({self._engine.dialect.stream_type}), got {found}"
        if partial is None:
            msg = f"{msg}: {quote(body)}"
        return UnexpectedResponseError(msg, partial=partial)


def _error_in(body: bytes) -> CallError | None:
    """The error that a body is, if it is a JSON object that tells of one."""
    try:
        value = from_json(body)
    except ValueError:
        return None
    return stream_failure(value) if isinstance(value, dict) and value.get("error") else None


async def _within(clock: StreamClock, work: Awaitable[T]) -> T:
    when, name = clock.deadline()
    try:
        async with asyncio.timeout_at(None if when == inf else when):
            return await work
    except TimeoutError as error:
        raise clock.expired(name) from error


async def _whole(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])
