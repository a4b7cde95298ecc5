"""JobQueue: each job is done once, and every wait for a result ends."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import CallError, EngineConfig, run_batch
from llmengine.engine.job_queue import JobQueue
from llmengine.engine.sync import ThreadWakeup, run
from llmengine.transport.loop import background, shutdown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COUNT = 5000


def _queue(work: Any, workers: int, *, in_order: bool = True) -> JobQueue[int, int]:
    return JobQueue(background(), lambda: work, workers, ThreadWakeup(), in_order=in_order)


@pytest.mark.parametrize("in_order", [True, False])
def test_each_job_is_done_once_by_a_limited_number_of_workers(
    in_thread: Any, in_order: bool
) -> None:
    """The order is that of the jobs, if it is asked for."""
    chance, now, most = random.Random(1), 0, 0

    async def work(job: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)
        now -= 1
        return job

    def consumer() -> list[int]:
        queue = _queue(work, 7, in_order=in_order)
        taken: list[int] = []
        for job in range(COUNT):
            queue.put(job)
            if job % 50 == 49:
                taken += run(queue.take())
        while len(taken) < COUNT:
            taken += run(queue.take())
        queue.close()
        return taken

    taken = in_thread(consumer).result(60)

    assert (taken if in_order else sorted(taken)) == list(range(COUNT))
    assert most == 7


def test_queue_that_closes_cancels_its_jobs(in_thread: Any, wait_until: Any) -> None:
    """Those that are under way, and those that have not begun."""
    begun, cancelled = [], []

    async def work(job: int) -> int:
        begun.append(job)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(job)
            raise
        return job

    queue = _queue(work, 2)
    for job in range(5):
        queue.put(job)
    wait_until(lambda: len(begun) == 2)

    queue.close()

    wait_until(lambda: len(cancelled) == 2)
    assert begun == sorted(cancelled) == [0, 1]


@pytest.mark.parametrize("where", ["at the start", "in a job"])
def test_queue_that_cannot_work_says_so(in_thread: Any, where: str) -> None:
    """An error that is not a result ends the wait, and is raised."""

    async def broken(_: int) -> int:
        raise CallError("broken in a job")

    def worker() -> Any:
        if where == "at the start":
            raise CallError("broken at the start")
        return broken

    queue: JobQueue[int, int] = JobQueue(background(), worker, 1, ThreadWakeup(), in_order=True)
    queue.put(1)

    with pytest.raises(CallError, match="broken" if where == "at the start" else "unexpected"):
        in_thread(lambda: run(queue.take())).result(60)


LINE = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
}


@pytest.mark.parametrize("style", ["stream", "iter_results", "batch"])
def test_shutdown_ends_a_call_that_waits(
    raw_server: Any, in_thread: Any, wait_until: Any, tmp_path: Path, style: str
) -> None:
    """The caller gets an error, and does not wait for ever."""
    arrived = threading.Event()

    def handler(_: Any, connection: Any) -> None:
        arrived.set()
        connection.pause(60)

    url = raw_server(handler).url
    engine = EngineConfig(backend="openai_compatible", model="m", endpoint=url).engine
    calls: dict[str, Callable[[], Any]] = {
        "stream": lambda: list(engine.stream("Hi")),
        "iter_results": lambda: list(engine.iter_results(["Hi"])),
        "batch": lambda: run_batch([LINE], tmp_path / "out.jsonl", engine),
    }
    calling = in_thread(calls[style])
    assert arrived.wait(30)

    shutdown()

    assert isinstance(error := calling.exception(60), CallError)
    assert "shut down" in str(error)
