"""The client of one model behind one server."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, Unpack

from pydantic_core import to_json

from llmengine.engine.batches import run_batch, run_job, run_window
from llmengine.engine.calls import Call
from llmengine.engine.doors import iterate, run, wait_asyncio, wait_blocking
from llmengine.engine.inquiries import Inquiries
from llmengine.engine.requests import (
    as_prompts,
    as_sampling,
    as_window,
    build_request,
    drawn_prompts,
)
from llmengine.engine.streams import End, Pump
from llmengine.telemetry.usage import log_batch
from llmengine.transport.loop import background
from llmengine.types.errors import BatchError, InvalidRequestError
from llmengine.types.request import Capability

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        AsyncIterator,
        Iterable,
        Iterator,
        Sequence,
    )
    from concurrent.futures import Future

    from llmengine.engine.doors import Wait
    from llmengine.engine.requests import CallOptions, Options
    from llmengine.transport.base import Outgoing
    from llmengine.transport.loop import Background
    from llmengine.types.errors import CallError, LLMEngineError
    from llmengine.types.outputs import Delta, LLMOutput, Result
    from llmengine.types.request import ChatRequest, Prompt
    from llmengine.types.sampling import SamplingParams


class Engine(Inquiries):
    """A client of one model behind one server: configuration, and no state worth keeping.

    Safe to share between threads, in a running event loop, after a fork, and to pickle. A
    backend is a subclass that says which dialect its server speaks and where it is found.

    The keyword options of all calls are the fields of CallOptions.
    """

    # ---- calls

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: object = None,
        **options: Unpack[Options],
    ) -> list[LLMOutput]:
        """One output a prompt, in order; a prompt is a string or a list of messages.

        ``sampling_params`` is one SamplingParams (ours or vLLM's) or a list with one a prompt.
        Raises BatchError, which carries every result, if any prompt failed for good.
        """
        return run(self._generate(wait_blocking, prompts, sampling_params, options))

    async def agenerate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: object = None,
        **options: Unpack[Options],
    ) -> list[LLMOutput]:
        """`generate` for a running event loop."""
        return await self._generate(wait_asyncio, prompts, sampling_params, options)

    def results(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: object = None,
        **options: Unpack[Options],
    ) -> list[Result]:
        """`generate` without raising: one Result a prompt, in order, answered or failed."""
        return run(self._results(wait_blocking, prompts, sampling_params, options))

    async def aresults(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: object = None,
        **options: Unpack[Options],
    ) -> list[Result]:
        """`results` for a running event loop."""
        return await self._results(wait_asyncio, prompts, sampling_params, options)

    def iter_results(
        self,
        prompts: Iterable[Prompt],
        sampling_params: object = None,
        *,
        window: int | None = None,
        **options: Unpack[Options],
    ) -> Iterator[Result]:
        """Results in order over any iterable, in constant memory.

        The prompts are drawn as results are read; ``window`` is how many may be started and not
        yet read (the engine's own ``window`` if left out).
        """
        return iterate(self._windowed(wait_blocking, prompts, sampling_params, window, options))

    def aiter_results(
        self,
        prompts: Iterable[Prompt] | AsyncIterable[Prompt],
        sampling_params: object = None,
        *,
        window: int | None = None,
        **options: Unpack[Options],
    ) -> AsyncIterator[Result]:
        """`iter_results` for a running event loop; the prompts may come asynchronously too."""
        return self._windowed(wait_asyncio, prompts, sampling_params, window, options)

    def stream(
        self, prompt: Prompt, sampling_params: object = None, **options: Unpack[Options]
    ) -> Iterator[Delta]:
        """The answer to one prompt as it is generated.

        Raises StreamIncompleteError, holding the partial text, if the stream ends without its
        terminal event. A failure before the first content is retried, a later one never. With an
        ``output_model`` an answer that does not fit raises after its last text; one that fits
        ends in a delta with ``parsed``.
        """
        return iterate(self._stream(wait_blocking, prompt, sampling_params, options))

    def astream(
        self, prompt: Prompt, sampling_params: object = None, **options: Unpack[Options]
    ) -> AsyncIterator[Delta]:
        """`stream` for a running event loop."""
        return self._stream(wait_asyncio, prompt, sampling_params, options)

    # ---- the same, written once

    async def _generate(
        self, wait: Wait, prompts: Any, sampling_params: object, options: Options
    ) -> list[LLMOutput]:
        results = await self._results(wait, prompts, sampling_params, options)
        if any(not result.ok for result in results):
            raise BatchError(results)
        return [result.unwrap() for result in results]

    async def _results(
        self, wait: Wait, prompts: Any, sampling_params: object, options: Options
    ) -> list[Result]:
        asked = self._asked(options)
        listed = as_prompts(prompts)
        sampling = as_sampling(sampling_params, len(listed))
        jobs = [
            self._job(prompt, params, asked, place)
            for place, (prompt, params) in enumerate(zip(listed, sampling, strict=True))
        ]
        loop, started = background(), monotonic()
        work = _batch(self, loop, self.url, self.root_url, jobs)
        results: list[Result] = await wait(loop.submit(work))
        log_batch(self, asked.step_id, results, monotonic() - started)
        return results

    def _windowed(
        self,
        wait: Wait,
        prompts: Any,
        sampling_params: object,
        window: int | None,
        options: Options,
    ) -> AsyncGenerator[Result, None]:
        asked = self._asked(options)
        (params,) = as_sampling(sampling_params, 1)
        loop, url, origin = background(), self.url, self.root_url

        def start(prompt: Prompt, place: int) -> Future[Result]:
            job = self._job(prompt, params, asked, place)
            return loop.submit(_single(self, loop, url, origin, job))

        size = as_window(window, self.window)
        return run_window(drawn_prompts(prompts), start, wait, size)

    async def _stream(
        self, wait: Wait, prompt: Prompt, sampling_params: object, options: Options
    ) -> AsyncGenerator[Delta, None]:
        (params,) = as_sampling(sampling_params, 1)
        request = build_request(self.config, prompt, params, self._asked(options), stream=True)
        loop = background()
        pump = Pump(self, request)
        running = loop.submit(pump.run(loop, self.url, self.root_url))
        try:
            while True:
                for item in await wait(loop.submit(pump.take())):
                    if not isinstance(item, End):
                        yield item
                    elif item.error is not None:
                        raise item.error
                    else:
                        return
        finally:
            running.cancel()

    def _job(
        self, prompt: Prompt, params: SamplingParams, options: CallOptions, place: int
    ) -> ChatRequest | LLMEngineError:
        try:
            return build_request(self.config, prompt, params, options, index=place)
        except InvalidRequestError as error:
            return error

    # ---- one request

    async def ready(self, call: Call) -> None:
        """Wait until it can be asked, which takes nothing of the call's clocks.

        A server is taken to be there. Runs on the loop, before each attempt.
        """

    def outgoing(self, call: Call, request: ChatRequest) -> Outgoing:
        """The request, encoded and ready; a backend that sends by other means overrides this.

        Runs on the loop. Raises InvalidRequestError for what the server cannot be told.
        """
        if Capability.REASONING not in self.capabilities:
            request = replace(request, reasoning=None)
        return call.raw(to_json(self.dialect.encode(request)))

    async def check_answer(self, call: Call, request: ChatRequest, output: LLMOutput) -> None:
        """Raise a CallError if something else that the server tells shows that the answer is wrong.

        Runs on the loop, after each answer that could be read.
        """

    async def explain(self, call: Call, error: CallError) -> None:
        """Add to an error what the server can tell about it. Runs on the loop."""

    # ---- life

    def close(self) -> None:
        """Release what the engine holds; a client of a server holds nothing worth the name."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.config,))


# A Call is made on the loop; the addresses are found before, since that may start a server.


async def _batch(
    engine: Engine,
    loop: Background,
    url: str,
    origin: str,
    jobs: list[ChatRequest | LLMEngineError],
) -> list[Result]:
    return await run_batch(Call(engine, loop, url, origin), jobs)


async def _single(
    engine: Engine, loop: Background, url: str, origin: str, job: ChatRequest | LLMEngineError
) -> Result:
    return await run_job(Call(engine, loop, url, origin), job)
