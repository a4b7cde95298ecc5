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

    from llmengine.engine.call import Call, CallUsage
    from llmengine.engine.job_queue import JobQueue
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


async def results_of(call: Call, jobs: Iterable[Job], count: int) -> list[Result]:
    """One result per job, in order; a few workers do the jobs, instead of one task per prompt."""
    results: list[Result | None] = [None] * count
    waiting = enumerate(jobs)

    async def worker() -> None:
        for place, job in waiting:
            results[place] = await result_of(call, job)

    async with TaskGroup() as group:
        for _ in range(min(count, call.backend.concurrency)):
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
