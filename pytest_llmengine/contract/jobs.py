"""Functions that run at the same time in threads, or that may not end.

The threads are daemons, so Ctrl-C and the end of the program do not wait for them.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from pytest_llmengine.contract.outcomes import NoVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")


def at_once(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Run each job in its own thread; return all results in order, or raise the first error."""
    return [future.result() for future in [_started(job) for job in jobs]]


def in_order(jobs: Sequence[Callable[[], T]], workers: int) -> Iterator[T]:
    """Run jobs in so many threads; yield the results in order, or raise a job's error.

    If the caller stops, jobs that have not begun are not run.
    """
    futures: list[Future[T]] = [Future() for _ in jobs]
    waiting = deque(zip(jobs, futures, strict=True))

    def work() -> None:
        while waiting:
            with suppress(IndexError):  # another thread took the last one
                _run(*waiting.popleft())

    for _ in range(min(workers, len(jobs))):
        Thread(target=work, daemon=True).start()
    try:
        for future in futures:
            yield future.result()
    finally:
        waiting.clear()


def within(seconds: float, job: Callable[[], T]) -> T:
    """Run a job that may not end; after `seconds` raise NoVerdict and leave it running."""
    future = _started(job)
    try:
        return future.result(max(seconds, 0.0))
    except TimeoutError:
        if future.done():  # the time-out came from the job itself
            raise
        raise NoVerdict(f"the check took longer than its {seconds:.3g} s") from None


def _started(job: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()
    Thread(target=_run, args=(job, future), daemon=True).start()
    return future


def _run(job: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(job())
    except BaseException as error:  # noqa: BLE001 - raised when the result is read
        future.set_exception(error)
