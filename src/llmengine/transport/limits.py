"""How many requests may be on their way, and when the next may go."""

from __future__ import annotations

import asyncio
import logging

from llmengine.types.errors import RateLimitError

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
