"""The clocks of a stream, as arithmetic.

How many requests may be on their way, and when the next may go.

When to try again, and when that would only cost.
"""

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


@dataclass(slots=True)
class StreamClock:
    """Says until when the next bytes may take, and which clock ran out if they do not come.

    Times are seconds of one monotonic clock; ``started`` is when the request was sent. Only
    generated content moves the gap clock on, so keep-alive comments do not count.
    """

    started: float
    first_token: float | None
    gap: float | None
    total: float | None
    _content_at: float | None = field(default=None, init=False)

    def content(self, now: float) -> None:
        """Generated content has arrived."""
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
        """Raise APITimeoutError if a clock has run out: timers fire only while nothing arrives."""
        when, name = self.deadline()
        if now >= when:
            raise self.expired(name)

    def expired(self, name: str) -> APITimeoutError:
        """The error of the clock of that name."""
        limit = getattr(self, name)
        words = {
            "first_token": "no token came within",
            "gap": "no further content came for",
            "total": "the stream was not done within",
        }
        return APITimeoutError(f"{words[name]} {limit:g} s", clock=name)


log = logging.getLogger("llmengine")

# Pauses that follow each other within so many seconds are told of once.
_SAME_TROUBLE = 60.0


class Pace:
    """The rhythm of one server for one key: even spacing, and a common pause after a 429.

    Every engine with the same address and key shares it, so one worker's 429 pauses them all.
    Made on the background loop, whose time it keeps.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._now = asyncio.get_running_loop().time
        self._queue = asyncio.Lock()
        self._free_at = 0.0
        self._pause_began = self._pause_ends = 0.0
        self._paused_before = 0.0  # the sum of all pauses before this one
        self._told = 0.0  # the longest pause that a warning told of in the present trouble

    def cool(self, seconds: float) -> None:
        """Let nobody send to this server with this key for that long."""
        now = self._now()
        if now >= self._pause_ends:
            if now - self._pause_ends > _SAME_TROUBLE:
                self._told = 0.0
            self._paused_before += self._pause_ends - self._pause_began
            self._pause_began = now
        self._pause_ends = max(self._pause_ends, now + seconds)
        if seconds > self._told:
            self._told = seconds
            log.warning(
                "%s asks to wait %.3g s (HTTP 429): no call with this key is sent until then",
                self._origin,
                seconds,
            )

    @property
    def pause(self) -> float:
        """Seconds for which nobody sends; 0.0 when the server may be asked. For any thread."""
        return max(0.0, self._pause_ends - self._now())

    async def turn(self, requests_per_minute: float | None, patience: float) -> None:
        """Wait until the server may be asked again.

        Raises RateLimitError (clock ``wait``) if the caller would spend more than `patience`
        seconds in pauses that the server asked for; at once if the first is as long as that.
        """
        if requests_per_minute is None and self._now() >= self._pause_ends:
            return
        until = self._in_pauses() + patience
        if requests_per_minute is None:
            await self._pass_pause(until, patience)
            return
        # Who waits holds no place in time, so that one who gives up leaves no gap, and after a
        # pause those who waited go one by one.
        async with self._queue:
            await self._pass_pause(until, patience)
            while (early := self._free_at - self._now()) > 0:
                await asyncio.sleep(early)
                await self._pass_pause(until, patience)
            self._free_at = self._now() + 60.0 / requests_per_minute

    async def _pass_pause(self, until: float, patience: float) -> None:
        while (pause := self.pause) > 0:  # another 429 may prolong it
            if self._in_pauses() + pause > until:
                raise RateLimitError(
                    f"{self._origin} asks to wait {pause:.3g} s more (it answered another call "
                    f"with HTTP 429); this call was to wait {patience:g} s at most, as its "
                    "timeout.wait says",
                    clock="wait",
                    retry_after=pause,
                )
            await asyncio.sleep(pause)

    def _in_pauses(self) -> float:
        """All the seconds that were spent in pauses until now."""
        return self._paused_before + min(self._now(), self._pause_ends) - self._pause_began


T = TypeVar("T")

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
# A server that asks for more than this is not busy but closed: giving up at once says so.
LONGEST_RETRY_AFTER = 120.0


def wait_before(
    attempt: int,
    error: CallError,
    first_wait: float = FIRST_WAIT,
    patience: float = LONGEST_RETRY_AFTER,
) -> float:
    """Seconds to wait before that attempt (the second is 2): full jitter, Retry-After a floor.

    It is never more than `patience`.
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
    """What `once` gives, tried again as long as it is worth it; else its last error.

    ``first_wait`` is the longest wait before the second attempt, in seconds; it doubles from
    attempt to attempt. A server that asks to wait longer than ``patience`` seconds is given up.

    A plain loop, because stamina's costs a hundred times its CPU, on calls that never fail too,
    and warns in the log of every user; ``BENCHMARK.md`` has the numbers.
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
