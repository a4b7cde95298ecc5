"""The rules for requests to one server: the clocks of streams, the request rate and retries."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, TypeVar

from llmengine.types.errors import APITimeoutError, CallError, RateLimitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger("llmengine")

T = TypeVar("T")


@dataclass(slots=True)
class StreamClock:
    """The deadlines of one stream: when the next bytes must have arrived, and by which clock.

    All times are seconds of one monotonic clock; ``started`` is when the request was sent. Only
    generated content restarts the gap clock, so keep-alive comments do not count.
    """

    started: float
    first_token: float | None
    gap: float | None
    total: float | None
    _content_at: float | None = field(default=None, init=False)

    def content(self, now: float) -> None:
        """Note that generated content has arrived."""
        self._content_at = now

    def deadline(self) -> tuple[float, str]:
        """The nearest deadline (infinity for none) and the name of its clock."""
        end = inf if self.total is None else self.started + self.total
        if self._content_at is None:
            silence = inf if self.first_token is None else self.started + self.first_token
            name = "first_token"
        else:
            silence = inf if self.gap is None else self._content_at + self.gap
            name = "gap"
        return (silence, name) if silence < end else (end, "total")

    def check(self, now: float) -> None:
        """Raise APITimeoutError if a clock has run out.

        Timers fire only while nothing arrives, so this is called when bytes have arrived.
        """
        when, name = self.deadline()
        if now >= when:
            raise self.expired(name)

    def expired(self, name: str) -> APITimeoutError:
        """The error that says that the clock with that name has run out."""
        limit = getattr(self, name)
        words = {
            "first_token": "no token arrived within",
            "gap": "no further content arrived for",
            "total": "the stream was not complete within",
        }
        return APITimeoutError(f"{words[name]} {limit:g} s", clock=name)


# Pauses that follow each other within this many seconds are logged as a warning once.
_SAME_SERIES = 60.0


class Pace:
    """The request rate for one server and one key: even spacing, and a common pause after a 429.

    All engines with the same address and key share it, so a 429 for one of them pauses them all.
    It must be created on the background loop, because it uses the time of that loop.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._now = asyncio.get_running_loop().time
        self._queue = asyncio.Lock()
        self._free_at = 0.0
        self._pause_began = self._pause_ends = 0.0
        self._paused_before = 0.0  # the sum of all pauses before this one
        self._logged = 0.0  # the longest pause that was logged in the present series of pauses

    def cool(self, seconds: float) -> None:
        """Send nothing to this server with this key for that many seconds."""
        now = self._now()
        if now >= self._pause_ends:
            if now - self._pause_ends > _SAME_SERIES:
                self._logged = 0.0
            self._paused_before += self._pause_ends - self._pause_began
            self._pause_began = now
        self._pause_ends = max(self._pause_ends, now + seconds)
        if seconds > self._logged:
            self._logged = seconds
            log.warning(
                "%s asks to wait %.3g s (HTTP 429): no call with this key is sent until then",
                self._origin,
                seconds,
            )

    @property
    def pause(self) -> float:
        """Seconds until requests may be sent again; 0.0 if they may be sent now. Thread-safe."""
        return max(0.0, self._pause_ends - self._now())

    async def turn(self, requests_per_minute: float | None, patience: float) -> None:
        """Wait until the next request may be sent.

        Raises RateLimitError (clock ``wait``) if the call would spend more than `patience`
        seconds in pauses that the server asked for. It is raised as soon as this is known, so at
        once if the present pause is too long.
        """
        if requests_per_minute is None and self._now() >= self._pause_ends:
            return
        until = self._in_pauses() + patience
        if requests_per_minute is None:
            await self._pass_pause(until, patience)
            return
        # A waiting call reserves no time slot. So a call that is cancelled leaves no gap, and
        # after a pause the waiting calls are still sent one by one.
        async with self._queue:
            await self._pass_pause(until, patience)
            while (wait := self._free_at - self._now()) > 0:
                await asyncio.sleep(wait)
                await self._pass_pause(until, patience)
            self._free_at = self._now() + 60.0 / requests_per_minute

    async def _pass_pause(self, until: float, patience: float) -> None:
        while (pause := self.pause) > 0:  # another 429 may prolong it
            if self._in_pauses() + pause > until:
                raise RateLimitError(
                    f"{self._origin} asks to wait {pause:.3g} s more (it answered another call "
                    f"with HTTP 429), but this call may wait {patience:g} s at most, by its "
                    "timeout.wait",
                    clock="wait",
                    retry_after=pause,
                )
            await asyncio.sleep(pause)

    def _in_pauses(self) -> float:
        """The total number of seconds that were spent in pauses until now."""
        return self._paused_before + min(self._now(), self._pause_ends) - self._pause_began


FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
# A server that asks to wait longer than this will not be available soon, so the call fails at once.
LONGEST_RETRY_AFTER = 120.0


def wait_before(
    attempt: int,
    error: CallError,
    first_wait: float = FIRST_WAIT,
    patience: float = LONGEST_RETRY_AFTER,
) -> float:
    """Seconds to wait before the attempt with that number (the second attempt is 2).

    The wait is random between 0 and a bound that doubles with each attempt ("full jitter"), plus
    ``Retry-After`` if the server sent it. It is never more than `patience`.
    """
    ceiling = min(LONGEST_WAIT, first_wait * 2.0 ** (attempt - 2))
    jitter = random.uniform(0.0, ceiling)  # nosec B311  # noqa: S311 - not a secret
    return min((error.retry_after or 0.0) + jitter, patience)


async def with_retries(
    once: Callable[[], Awaitable[T]],
    max_retries: int,
    first_wait: float = FIRST_WAIT,
    patience: float = LONGEST_RETRY_AFTER,
) -> T:
    """The result of `once`, which is called again after errors that are retryable.

    The last error is raised if no attempt succeeds. ``first_wait`` is the longest wait before the
    second attempt, in seconds; it doubles with each attempt. If the server asks to wait longer
    than ``patience`` seconds, its error is raised at once.

    This is a plain loop and not stamina, which needs a hundred times the CPU, also for calls that
    never fail, and logs warnings for every user; ``BENCHMARK.md`` has the numbers.
    """
    for attempt in itertools.count(1):
        try:
            return await once()
        except CallError as error:
            error.attempts = attempt
            if not error.retryable:
                raise
            if error.retry_after is not None and error.retry_after > patience:
                error.advise(
                    f"the server asks to wait {error.retry_after:g} s, more than the "
                    f"{patience:g} s that timeout.wait allows"
                )
                raise
            if attempt > max_retries:
                raise
            wait = wait_before(attempt + 1, error, first_wait, patience)
            log.info("attempt %d failed, the next in %.2f s: %s", attempt, wait, error.label)
            log.debug("attempt %d failed: %s", attempt, error)
        await asyncio.sleep(wait)
    raise AssertionError  # the loop ends by returning or raising
