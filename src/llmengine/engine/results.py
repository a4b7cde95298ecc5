"""The results of one prompt, of a list of prompts, and of an iterable in a window."""

from __future__ import annotations

from asyncio import TaskGroup
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from llmengine.dialects.common import is_off
from llmengine.engine.call import Call, as_llm_error, warn_of_reasoning
from llmengine.engine.options import build_request
from llmengine.engine.structured import generate_structured, require_enforcement
from llmengine.structured.validation import refuse_uncalled
from llmengine.transport.loop import background
from llmengine.types.errors import CallError, LLMEngineError, detached
from llmengine.types.request import Capability
from llmengine.types.results import Result

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Coroutine, Iterable

    from llmengine.backends.base import Backend
    from llmengine.engine.call import CallObserver, CallUsage
    from llmengine.engine.job_queue import JobQueue
    from llmengine.engine.options import CallOptions
    from llmengine.types.outputs import LLMOutput
    from llmengine.types.request import ChatRequest, Prompt
    from llmengine.types.sampling import SamplingParams

# Gives the result of one prompt; called on the background loop.
Job = Callable[[], Awaitable[Result]]


class ObservedJob(Protocol):
    """A Job that may have an observer."""

    def __call__(self, observer: CallObserver | None = None) -> Coroutine[object, object, Result]:
        """The result of the prompt."""
        ...


J_co = TypeVar("J_co", covariant=True)


class JobMaker(NamedTuple, Generic[J_co]):
    """Makes the jobs of a call's prompts.

    ``begin`` is called on the loop before the first job is done; it raises ConfigError for a
    configuration that no call can use. ``make`` is given a prompt, its sampling parameters and its
    place among all prompts.
    """

    begin: Callable[[], object]
    make: Callable[[Prompt, SamplingParams, int], J_co]


def job_maker(backend: Backend, options: CallOptions) -> JobMaker[ObservedJob]:
    """The JobMaker of a backend.

    The addresses are found here and not on the loop, because finding them may start a server.
    """
    loop, urls = background(), backend.urls()
    options = supported(options, backend)

    @cache
    def call() -> Call:
        return Call(backend, backend.connect(loop, urls))

    def job(prompt: Prompt, params: SamplingParams, place: int) -> ObservedJob:
        request: ChatRequest | LLMEngineError
        try:
            request = build_request(backend.config, prompt, params, options, index=place)
        except Exception as error:  # noqa: BLE001 - a bug at one prompt must not lose the batch
            request = as_llm_error(error)
        return partial(result_of, call, request)

    return JobMaker(call, job)


def supported(options: CallOptions, backend: Backend) -> CallOptions:
    """The options, without reasoning if the backend has none; that is logged once."""
    wanted = backend.config.reasoning if options.reasoning is None else options.reasoning
    if wanted is None:
        return options
    if Capability.REASONING in backend.capabilities:
        return replace(options, reasoning=wanted)
    if wanted and not is_off(wanted):
        warn_of_reasoning(backend, f"backend {backend.name!r}", wanted)
    # If reasoning is not wanted, no part of the answer's text is read as reasoning.
    return replace(options, reasoning=False if is_off(wanted) else None)


async def result_of(
    make_call: Callable[[], Call],
    request: ChatRequest | LLMEngineError,
    observer: CallObserver | None = None,
) -> Result:
    """The result of one prompt, whether it succeeded or failed; only cancellation is raised.

    The request is an error if the prompt is invalid.
    """
    if isinstance(request, LLMEngineError):
        return Result(error=request, attempts=0, cost=0.0)
    call = make_call()
    await call.slots.acquire()
    try:
        with call.usage(request, observer) as usage:
            try:
                output = await _answer(call, request, usage)
            except Exception as raised:  # noqa: BLE001 - a bug at one prompt must not lose the batch
                error = as_llm_error(raised)
                if isinstance(error, CallError):
                    error.attempts = usage.attempts
                return usage.close(error=detached(error))
            return usage.close(output)
    finally:
        call.slots.release()


async def _answer(call: Call, request: ChatRequest, usage: CallUsage) -> LLMOutput:
    if request.output_model is not None:
        return await generate_structured(call, request, usage)
    if request.sampling.structured_outputs:
        await require_enforcement(call, request)
    output = await call.exchange(request, usage)
    if request.tool_choice is not None:
        refuse_uncalled(output, request)
    return output


async def results_of(
    begin: Callable[[], object], jobs: Iterable[Job], count: int, workers: int
) -> list[Result]:
    """One result per job, in order; a few workers do the jobs, instead of one task per prompt.

    ``begin`` is called before.
    """
    begin()
    results: list[Result | None] = [None] * count
    waiting = enumerate(jobs)

    async def worker() -> None:
        for place, job in waiting:
            results[place] = await job()

    async with TaskGroup() as group:
        for _ in range(min(count, workers)):
            group.create_task(worker())
    return [result for result in results if result is not None]


async def results_in_window(
    prompts: Iterable[Prompt] | AsyncIterable[Prompt],
    job: Callable[[Prompt, int], Job],
    queue: Callable[[], JobQueue[Job, Result]],
    size: int,
) -> AsyncGenerator[Result, None]:
    """Results in order, for any number of prompts; at most `size` are started and not yet read.

    The prompts are iterated in the caller's own thread or task, one by one, as results are read.
    """
    jobs, ready = queue(), deque[Result]()
    started = read = 0

    async def next_result() -> Result:
        nonlocal read
        if not ready:
            ready.extend(await jobs.take())
        read += 1
        return ready.popleft()

    try:
        async for prompt in _each(prompts):
            jobs.put(job(prompt, started))
            started += 1
            if started - read >= size:
                yield await next_result()
        while read < started:
            yield await next_result()
    finally:
        jobs.close()


async def _each(prompts: Iterable[Prompt] | AsyncIterable[Prompt]) -> AsyncIterator[Prompt]:
    if hasattr(prompts, "__aiter__"):
        async for prompt in prompts:
            yield prompt
    else:
        for prompt in prompts:
            yield prompt
