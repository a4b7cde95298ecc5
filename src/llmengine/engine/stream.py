"""One streamed answer, which is read as chunks of bytes and passed on as deltas."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Protocol

from llmengine.dialects.common import HTML_ADVICE, is_html_page
from llmengine.dialects.fields import quote
from llmengine.engine.call import Call, as_llm_error
from llmengine.engine.options import build_request
from llmengine.engine.results import supported
from llmengine.engine.structured import require_enforcement, stream_structured
from llmengine.structured.validation import WhitespaceWatch, refuse_uncalled, whitespace_loop
from llmengine.transport.answer_limits import EventMeter
from llmengine.transport.base import feed
from llmengine.transport.loop import background
from llmengine.transport.stream_clock import StreamClock
from llmengine.types.errors import CallError, UnexpectedResponseError, detached
from llmengine.types.outputs import Delta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

    from llmengine.backends.base import Backend
    from llmengine.dialects.base import StreamDecoder
    from llmengine.engine.call import CallObserver, CallUsage
    from llmengine.engine.options import CallOptions
    from llmengine.transport.base import HTTPStream
    from llmengine.transport.limiter import Permit
    from llmengine.types.errors import LLMEngineError
    from llmengine.types.outputs import LLMOutput
    from llmengine.types.request import ChatRequest, Prompt
    from llmengine.types.sampling import SamplingParams


_LARGE_CHUNK = 2**14
# How many deltas may wait for a slow reader; then nothing more is read from the server.
MAX_QUEUED = 256


class DeltaSink(Protocol):
    """What takes the deltas of a stream, such as a Channel."""

    @property
    def is_full(self) -> bool:
        """Whether as many deltas wait as the stream may run ahead."""
        ...

    def put(self, items: Sequence[Delta]) -> None:
        """Add deltas in order."""
        ...

    async def room(self) -> None:
        """Wait until the deltas are taken."""
        ...


class StreamReader:
    """Fetches one streamed answer on the background loop and puts its deltas into a sink.

    ``delivered`` says whether the sink has got any generated content, and ``output`` is the whole
    answer if it is complete. The constructor is not called on the loop, because it may start a
    server.
    """

    _call: Call  # made on the loop

    def __init__(
        self,
        backend: Backend,
        deltas: DeltaSink,
        prompt: Prompt,
        params: SamplingParams,
        options: CallOptions,
    ) -> None:
        self.delivered = False
        self.output: LLMOutput | None = None
        self._backend = backend
        self._deltas = deltas
        options = supported(options, backend)
        self._request = build_request(backend.config, prompt, params, options, stream=True)
        self._loop, self._urls = background(), backend.urls()
        self._watches: defaultdict[int, WhitespaceWatch] | None = None  # if structured

    async def read(self, observer: CallObserver | None = None) -> LLMEngineError | None:
        """Put every delta into the sink; returns the error if the answer is not complete."""
        self._call = Call(self._backend, self._backend.connect(self._loop, self._urls))
        async with self._call.slots:
            with self._call.usage(self._request, observer) as usage:
                try:
                    output = await self._answer(usage)
                except Exception as raised:  # noqa: BLE001 - raised again where the deltas are read
                    error = as_llm_error(raised)
                    if isinstance(error, CallError):
                        error.attempts = usage.attempts
                    usage.close(error=error)
                    return detached(error)
                usage.close(output)
                self.output = output
        return None

    def _answer(self, usage: CallUsage) -> Coroutine[object, object, LLMOutput]:
        """The coroutine that reads the answer, with as few others within it as possible.

        Each piece of the answer resumes all of them, one by one.
        """
        request = self._request
        if request.output_model is not None:
            return self._structured(usage)
        if request.sampling.structured_outputs or request.tool_choice is not None:
            return self._constrained(usage)
        return self._exchange(request, usage)

    async def _constrained(self, usage: CallUsage) -> LLMOutput:
        """Read an answer that must have a form or call a tool."""
        if self._request.sampling.structured_outputs:
            await require_enforcement(self._call, self._request)
        output = await self._exchange(self._request, usage)
        if self._request.tool_choice is not None:
            refuse_uncalled(output, self._request)
        return output

    async def _structured(self, usage: CallUsage) -> LLMOutput:
        """Queue the deltas of a structured answer and, once it is validated, the parsed value."""
        self._watches = defaultdict(WhitespaceWatch)

        async def send(changed: ChatRequest, max_retries: int | None) -> LLMOutput:
            return await self._exchange(changed, usage, max_retries)

        output = await stream_structured(self._call, self._request, send)
        for answer in output.outputs:
            self._deltas.put([Delta(index=answer.index, parsed=answer.parsed)])
        return output

    async def _exchange(
        self, request: ChatRequest, usage: CallUsage, max_retries: int | None = None
    ) -> LLMOutput:
        async def send(changed: ChatRequest) -> LLMOutput:
            once = partial(self._attempt, changed, usage)
            connection = self._call.connection
            return await connection.retried(once, max_retries, connection.size_of(changed))

        return await self._call.with_or_without_reasoning(request, send)

    async def _attempt(self, request: ChatRequest, usage: CallUsage, permit: Permit) -> LLMOutput:
        decoder = self._backend.dialect.decoder(request)
        try:
            output = await self._fetch(request, decoder, usage, permit)
        except Exception as raised:  # noqa: BLE001 - raised as an LLMEngineError
            error = as_llm_error(raised)
            if isinstance(error, CallError):
                if error.partial is None:
                    error.partial = decoder.partial
                # No retry if the caller has read a part of the answer, which a second attempt would
                # repeat, or if the error holds content, which the caller gets.
                error.final = error.final or self.delivered or _has_content(error.partial)
                usage.failed(error)
                await self._backend.explain(self._call.connection, error)
            raise error from error.__cause__
        self._call.note_answer(output, usage, permit)
        return output

    async def _fetch(
        self, request: ChatRequest, decoder: StreamDecoder, usage: CallUsage, permit: Permit
    ) -> LLMOutput:
        backend, connection = self._backend, self._call.connection
        clocks, limits = connection.clocks, connection.config.limits
        usage.attempt()
        async with AsyncExitStack() as stack:
            stack.callback(permit.end_request)
            with StreamClock(clocks.first_token, clocks.gap, clocks.total) as clock:
                reply = await stack.enter_async_context(
                    connection.stream(backend.outgoing(connection, request))
                )
                connection.chats.read_headers(reply.headers)
                if reply.status != 200:  # noqa: PLR2004 - the only status of success
                    body = await _whole(reply.chunks)
                    limits.hold_values(body)
                    raise connection.refusal(reply.status, reply.headers, body)
                if backend.dialect.stream_type not in reply.headers.get("Content-Type", "").lower():
                    body = await _whole(reply.chunks)
                    limits.hold_values(body)
                    raise self._not_a_stream(reply, body)
                meter = EventMeter(limits, backend.dialect.stream_type)

                def take(chunk: bytes) -> bool:
                    """Pass on the deltas of a chunk; returns whether the next one may follow."""
                    now = clock.now()
                    meter.feed(chunk)
                    deltas = decoder.feed(chunk)
                    if self._put(deltas, usage):
                        clock.content(now)
                    if self._watches is not None and self._is_whitespace_loop(deltas):
                        raise whitespace_loop(decoder.partial)
                    return len(chunk) <= _LARGE_CHUNK and not self._deltas.is_full

                while not await feed(reply.chunks, take):
                    await asyncio.sleep(0)  # many events: let other calls run
                    if self._deltas.is_full:
                        # The clocks do not run while a slow reader is waited for.
                        clock.pause()
                        await self._deltas.room()
                        clock.resume()
        self._put(decoder.end(), usage)
        output = decoder.finish()
        await backend.check_answer(connection, request, output)
        return output

    def _put(self, deltas: list[Delta], usage: CallUsage) -> bool:
        """Pass the deltas on; returns whether they have generated content."""
        self._deltas.put(deltas)
        for delta in deltas:
            if delta.has_content:
                usage.content()
                self.delivered = True
                return True
        return False

    def _is_whitespace_loop(self, deltas: list[Delta]) -> bool:
        """Whether the answer continues with whitespace only; in that case the stream is closed."""
        assert self._watches is not None
        return any(self._watches[d.index].loops(d.text) for d in deltas)

    def _not_a_stream(self, reply: HTTPStream, body: bytes) -> CallError:
        """The error for an answer that is not a stream.

        If the body is a whole answer, it is kept as the error's ``partial``. If it is an error that
        the server reports, that error is returned.
        """
        partial, cut = None, False
        try:
            partial = self._backend.dialect.decode(body, self._request)
        except UnexpectedResponseError as unread:
            partial, cut = unread.partial, unread.cut
        except CallError as reported:
            return reported
        found = reply.headers.get("Content-Type", "no content type")
        msg = f"asked for a stream ({self._backend.dialect.stream_type}), got {found}"
        if partial is None:
            msg = f"{msg}: {quote(body)}"
        error = UnexpectedResponseError(msg, status=reply.status, partial=partial, cut=cut)
        if is_html_page(body):
            error.advise(HTML_ADVICE)
        return error


def _has_content(output: LLMOutput) -> bool:
    return any(o.text or o.reasoning or o.tool_calls for o in output.outputs)


async def _whole(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])
