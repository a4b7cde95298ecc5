"""Many prompts at once: a few workers and an order, never a task a prompt."""

from __future__ import annotations

from asyncio import TaskGroup
from collections import deque
from typing import TYPE_CHECKING

from llmengine.types.errors import LLMEngineError
from llmengine.types.outputs import Result

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
    from concurrent.futures import Future

    from llmengine.engine.calls import Call
    from llmengine.engine.doors import Wait
    from llmengine.types.request import ChatRequest, Prompt


async def run_batch(call: Call, jobs: list[ChatRequest | LLMEngineError]) -> list[Result]:
    """One result a job, in order; a job that is an error already becomes its result."""
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
    """Results in order over prompts without end: at most `size` are started and not yet read.

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
