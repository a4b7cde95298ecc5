"""The deadlines of one stream, with the timer that ends the stream when one has passed."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Self

from llmengine.types.errors import APITimeoutError

if TYPE_CHECKING:
    from types import TracebackType

_WORDS = {
    "first_token": "no token arrived within",
    "gap": "no further content arrived for",
    "total": "the stream was not complete within",
}


class StreamClock:
    """Raises APITimeoutError in its ``with`` block, which reads a stream, when a clock runs out.

    The limits are seconds from the beginning of the block, and ``gap`` from the last content; None
    for no limit. Only generated content restarts the gap clock, so keep-alive comments do not
    count.

    Content comes up to thousands of times per second, so it does not move the timer. The timer
    moves itself when it fires before the deadline.
    """

    __slots__ = (
        "_cancelling",
        "_deadline",
        "_end",
        "_fires_at",
        "_gap",
        "_has_expired",
        "_limits",
        "_loop",
        "_name",
        "_paused_at",
        "_task",
        "_timer",
    )
    _task: asyncio.Task[object]

    def __init__(self, first_token: float | None, gap: float | None, total: float | None) -> None:
        self._limits = {"first_token": first_token, "gap": gap, "total": total}
        self._loop = asyncio.get_running_loop()
        self._gap = inf if gap is None else gap
        self._end = self._deadline = self._fires_at = inf
        self._name = "total"  # the clock that runs out at the deadline
        self._timer: asyncio.TimerHandle | None = None
        self._paused_at: float | None = None
        self._has_expired = False
        self._cancelling = 0

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        now = self._loop.time()
        first_token, total = self._limits["first_token"], self._limits["total"]
        self._end = inf if total is None else now + total
        self._move("first_token", inf if first_token is None else now + first_token)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # If the task was cancelled by others too, the cancellation goes on, as in asyncio.timeout.
        if (
            self._has_expired
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise self._error() from None

    def now(self) -> float:
        """The time, when bytes have arrived; raises APITimeoutError if a clock has run out.

        The timer fires only while nothing arrives, so this is called for everything that arrives.
        """
        now = self._loop.time()
        if now >= self._deadline:
            raise self._error()
        return now

    def content(self, now: float) -> None:
        """Note that generated content has arrived."""
        self._move("gap", now + self._gap)

    def pause(self) -> None:
        """Nothing is read from here on, so no deadline ends the block."""
        self._paused_at = self._loop.time()

    def resume(self) -> None:
        """The stream is read again; the pause does not count as silence of the server."""
        if self._paused_at is None:
            return
        pause, self._paused_at = self._loop.time() - self._paused_at, None
        if self._name != "total":
            self._move(self._name, self._deadline + pause)
        elif self._timer is None:
            self._start_timer()

    def _move(self, name: str, silence: float) -> None:
        if silence < self._end:
            self._deadline, self._name = silence, name
        else:
            self._deadline, self._name = self._end, "total"
        if self._deadline < self._fires_at:
            self._start_timer()

    def _start_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fires_at = self._deadline
        if self._deadline < inf:
            self._timer = self._loop.call_at(self._deadline, self._fire)

    def _fire(self) -> None:
        self._timer, self._fires_at = None, inf
        if self._paused_at is not None:
            return
        if self._loop.time() < self._deadline:
            self._start_timer()
        else:
            self._has_expired = True
            self._task.cancel()

    def _error(self) -> APITimeoutError:
        limit, name = self._limits[self._name], self._name
        return APITimeoutError(f"{_WORDS[name]} {limit:g} s", clock=name)
