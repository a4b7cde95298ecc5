"""Requests under way: a bounded number of them, their answers in the order in which they come."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Future

    from llmengine.batch.asking import Answer
    from llmengine.batch.lines import BatchRequest

    Start = Callable[[BatchRequest], Future[Answer]]
    Landed = tuple[BatchRequest, Answer]

# How long to wait for an answer before the caller gets a turn to do something else.
_TURN = 1.0


def ask_all(
    requests: Iterable[BatchRequest | None], start: Start, window: int
) -> Generator[Landed | None, None, None]:
    """Every request with its answer, as soon as it is there; None when none came for a second.

    The requests are drawn in the caller's own thread, and only as far as there is room; a None
    among them asks nothing. If drawing fails, what is under way is still waited for and given.
    Closing the generator cancels what is under way.
    """
    flight = _Flight(start)
    try:
        try:
            for request in requests:
                if request is not None:
                    flight.launch(request)
                while flight.has_landed or flight.size >= window:
                    yield flight.next()
        except Exception:
            # Raised again below: what was asked is paid for, so its answers are given first.
            while flight.size:
                yield flight.next()
            raise
        while flight.size:
            yield flight.next()
    finally:
        flight.cancel()


class _Flight:
    def __init__(self, start: Start) -> None:
        self._start = start
        self._flying: dict[Future[Answer], BatchRequest] = {}
        self._landed: SimpleQueue[Future[Answer]] = SimpleQueue()

    @property
    def size(self) -> int:
        return len(self._flying)

    @property
    def has_landed(self) -> bool:
        return not self._landed.empty()

    def launch(self, request: BatchRequest) -> None:
        future = self._start(request)
        self._flying[future] = request
        future.add_done_callback(self._landed.put)

    def next(self) -> Landed | None:
        try:
            future = self._landed.get(timeout=_TURN)
        except Empty:
            return None
        return self._flying.pop(future), future.result()

    def cancel(self) -> None:
        for future in self._flying:
            future.cancel()
