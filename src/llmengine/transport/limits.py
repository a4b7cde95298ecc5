"""How many requests may be on their way, and when the next may go."""

from __future__ import annotations

import asyncio


class Pace:
    """The rhythm of one endpoint: even spacing, and a common pause after a 429.

    Every engine with the same endpoint shares it, so one worker's 429 cools them all.
    """

    def __init__(self) -> None:
        self._free_at = 0.0
        self._cool_until = 0.0

    def cool(self, seconds: float) -> None:
        """Let nobody send to this endpoint for that long."""
        until = asyncio.get_running_loop().time() + seconds
        self._cool_until = max(self._cool_until, until)

    @property
    def pause(self) -> float:
        """Seconds for which nobody sends to this endpoint; 0.0 when it may be asked."""
        return max(0.0, self._cool_until - asyncio.get_running_loop().time())

    async def turn(self, requests_per_minute: float | None) -> None:
        """Wait until the endpoint may be asked again."""
        loop = asyncio.get_running_loop()
        if requests_per_minute is not None:
            mine = max(self._free_at, loop.time())
            self._free_at = mine + 60.0 / requests_per_minute
            await asyncio.sleep(mine - loop.time())
        while (pause := self.pause) > 0:  # noqa: ASYNC110 - it may move on
            await asyncio.sleep(pause)
