"""The client that measures: one streamed request with the times of all its reads.

It uses the engine's wire format and HTTP client, and works on the background loop only. Requests
are sent as they are scheduled: no limit, pause or retry of the engine delays or repeats one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from llmengine.dialects.errors import failure
from llmengine.dialects.fields import quote
from llmengine.engine.call import as_llm_error
from llmengine.engine.options import CallOptions, build_request
from llmengine.transport.loop import background
from llmengine.transport.stream_clock import StreamClock
from llmengine.types.errors import CallError, UnexpectedResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from llmengine.engine.engine import Engine
    from llmengine.types.request import ChatRequest, Prompt
    from llmengine.types.sampling import SamplingParams
    from pytest_llmengine.bench.samples import BenchSample

T = TypeVar("T")


class BenchClient:
    """Sends chats to the server of an engine; an answer may take ``timeout`` seconds."""

    def __init__(self, engine: Engine, sampling: SamplingParams, timeout: float) -> None:
        self._backend = engine.backend
        self._config = engine.config
        self._sampling = sampling
        self._timeout = timeout
        self._loop = background()
        self._urls = engine.backend.urls()  # may start a server, so not on the loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of work on the background loop; an interrupt cancels it."""
        future = self._loop.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def request(self, prompt: Prompt) -> ChatRequest:
        """The request for a prompt, made before its time has come."""
        options = CallOptions(reasoning=self._config.reasoning)
        return build_request(self._config, prompt, self._sampling, options, stream=True)

    async def send(
        self, request: ChatRequest, sample: BenchSample, now: Callable[[], float]
    ) -> None:
        """Send the request and note the times in the sample; a failure is noted too."""
        sample.sent = now()
        try:
            await self._send(request, sample, now)
        except Exception as raised:  # noqa: BLE001 - noted as an LLMEngineError
            error = as_llm_error(raised)
            sample.error = error.label if isinstance(error, CallError) else type(error).__name__
            sample.message = str(error)
        sample.ended = now()

    async def _send(
        self, request: ChatRequest, sample: BenchSample, now: Callable[[], float]
    ) -> None:
        connection = self._backend.connect(self._loop, self._urls)
        await self._backend.ready(self._loop)
        decoder = self._backend.dialect.decoder(request)
        with StreamClock(None, None, self._timeout):
            async with connection.stream(self._backend.outgoing(connection, request)) as reply:
                if reply.status != 200:  # noqa: PLR2004 - the only status of success
                    body = b"".join([chunk async for chunk in reply.chunks])
                    raise failure(reply.status, reply.headers, body)
                found = reply.headers.get("Content-Type", "no content type")
                if self._backend.dialect.stream_type not in found.lower():
                    raise UnexpectedResponseError(f"asked for a stream, got {quote(found)}")
                async for chunk in reply.chunks:
                    arrived = now()
                    if any(delta.has_content for delta in decoder.feed(chunk)):
                        sample.reads.append(arrived)
        if any(delta.has_content for delta in decoder.end()):
            sample.reads.append(now())
        output = decoder.finish()
        if not sample.reads:
            raise UnexpectedResponseError("an answer without content", partial=output)
        if output.usage is not None:
            sample.tokens = output.usage.completion_tokens
