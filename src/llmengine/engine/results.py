"""The results of one prompt, of a list of prompts, and of an iterable in a window."""

from __future__ import annotations

from asyncio import TaskGroup
from collections import deque
from typing import TYPE_CHECKING

from llmengine.engine.call import as_llm_error
from llmengine.engine.structured import generate_structured, require_enforcement
from llmengine.structured.validation import refuse_uncalled
from llmengine.types.errors import CallError, LLMEngineError, detached
from llmengine.types.results import Result

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
    from concurrent.futures import Future

    from llmengine.engine.call import Call, CallUsage
    from llmengine.engine.sync import Wait
    from llmengine.types.outputs import LLMOutput
    from llmengine.types.request import ChatRequest, Prompt

    # The request for a prompt, or the error that says why the prompt is invalid.
    Job = ChatRequest | LLMEngineError


async def result_of(call: Call, job: Job) -> Result:
    """The result of one prompt, whether it succeeded or failed; only cancellation is raised."""
    if isinstance(job, LLMEngineError):
        return Result(error=job, attempts=0, cost=0.0)
    async with call.slots:
        with call.usage(job) as usage:
            try:
                output = await _answer(call, job, usage)
            except Exception as raised:  # noqa: BLE001 - a bug at one prompt must not lose the batch
                error = as_llm_error(raised)
                if isinstance(error, CallError):
                    error.attempts = usage.attempts
                return usage.close(error=detached(error))
            return usage.close(output)


async def _answer(call: Call, request: ChatRequest, usage: CallUsage) -> LLMOutput:
    if request.output_model is not None:
        return await generate_structured(call, request, usage)
    if request.sampling.structured_outputs:
        await require_enforcement(call, request)
    output = await call.exchange(request, usage)
    if request.tool_choice is not None:
        refuse_uncalled(output, request)
    return output


async def results_of(call: Call, jobs: list[Job]) -> list[Result]:
    """One result per job, in order; a few workers do the jobs, instead of one task per prompt."""
    results: list[Result | None] = [None] * len(jobs)
    waiting = iter(enumerate(jobs))

    async def worker() -> None:
        for place, job in waiting:
            results[place] = await result_of(call, job)

    async with TaskGroup() as group:
        for _ in range(min(len(jobs), call.backend.concurrency)):
            group.create_task(worker())
    return [result for result in results if result is not None]


async def results_in_window(
    prompts: Iterable[Prompt] | AsyncIterable[Prompt],
    start: Callable[[Prompt, int], Future[Result]],
    wait: Wait,
    size: int,
) -> AsyncGenerator[Result, None]:
    """Results in order, for any number of prompts; at most `size` are started and not yet read.

    The prompts are iterated in the caller's own thread or task, one by one, as results are read.
    """
    started: deque[Future[Result]] = deque()
    place = 0
    try:
        async for prompt in _each(prompts):
            started.append(start(prompt, place))
            place += 1
            if len(started) >= size:
                yield await wait(started.popleft())
        while started:
            yield await wait(started.popleft())
    finally:
        for future in started:
            future.cancel()


async def _each(prompts: Iterable[Prompt] | AsyncIterable[Prompt]) -> AsyncIterator[Prompt]:
    if hasattr(prompts, "__aiter__"):
        async for prompt in prompts:
            yield prompt
    else:
        for prompt in prompts:
            yield prompt
