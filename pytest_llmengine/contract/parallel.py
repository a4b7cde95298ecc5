"""Several requests at the same time, and code whose end cannot be relied on.

The threads are daemons, so that neither Ctrl-C nor the end of the program waits for a server.
"""

from __future__ import annotations

from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from pytest_llmengine.contract.outcomes import NoVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


def at_once(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """The results of all jobs in order, each run in a thread of its own; the first error raises."""
    return [future.result() for future in [_started(job) for job in jobs]]


def within(seconds: float, job: Callable[[], T]) -> T:
    """The result of a job; raises NoVerdict, and leaves the job alone, if it takes longer."""
    future = _started(job)
    try:
        return future.result(max(seconds, 0.0))
    except TimeoutError:
        if future.done():  # the job's own time-out
            raise
        raise NoVerdict(f"the check took longer than its {seconds:.3g} s") from None


def _started(job: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()
    Thread(target=_run, args=(job, future), daemon=True).start()
    return future


def _run(job: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(job())
    except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
        future.set_exception(error)
