"""The queue of a server that answers a few calls at a time and lets all others wait.

Ollama and llama.cpp take every request at once and answer one or a few of them. The others wait
with an open connection, so that their clocks run while nothing is done for them.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, TypeVar

from llmengine.types.errors import APITimeoutError, CallError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger("llmengine")

T = TypeVar("T")

# The clocks that run while a call waits in a server's queue.
_CLOCKS = frozenset({"total", "first_token"})
# How many answers in time, for each call of the limit, allow one call more.
_ANSWERS_TO_RAISE = 16


@dataclass(slots=True)  # not frozen, since that makes it four times as slow to make
class _Sent:
    """One call, and the state of the queue when it was sent.

    ``number`` counts the calls that were sent, and ``answered`` those that were answered by then.
    ``under_way`` is how many the server had, this one included, and ``limit`` the limit.
    """

    number: int
    answered: int
    under_way: int
    limit: float


class ServerQueue:
    """The calls that one server has at once for one model; lives on the background loop.

    There is no limit until a call runs out of time in the server's queue. That is the case if
    the server was at work while it waited: it answered others, or the call was sent behind one
    that waited in vain. It is not the case if a call overtook it that was sent when all calls
    before it could have been answered: then the server had begun with it.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._limit = inf
        self._sent = self._under_way = self._answered = 0
        self._latest = 0  # ``_Sent.answered`` of the call sent last among those answered
        self._behind = 0  # calls up to this number were sent behind one that waited in vain
        self._in_time = 0  # calls answered since the limit was changed
        self._room = asyncio.Event()

    async def attempt(
        self,
        once: Callable[[], Awaitable[T]],
        turn: Callable[[], Awaitable[None]],
        *,
        again: bool,
    ) -> T:
        """What `once` gives, sent when it is its `turn` and the limit allows it.

        An attempt that ran out of time in the server's queue lowers the limit and is made again,
        under a lower limit each time, if `again` says so. Otherwise its error names the queue.
        """
        tried: float | None = None
        while True:
            await turn()
            while self._under_way >= self._limit:
                self._room.clear()
                await self._room.wait()
            sent = self._send()
            try:
                answer = await once()
            except APITimeoutError as error:
                if not self._has_waited(sent, error):
                    raise
                self._behind = self._sent
                if not again or (tried is not None and sent.limit >= tried):
                    error.advise(_advice(sent, self._answered - sent.answered))
                    raise
                tried = sent.limit
                self._lower(sent, error)
            else:
                self._note_answer(sent)
                return answer
            finally:
                self._under_way -= 1
                self._room.set()

    def _send(self) -> _Sent:
        self._sent += 1
        self._under_way += 1
        return _Sent(self._sent, self._answered, self._under_way, self._limit)

    def _has_waited(self, sent: _Sent, error: CallError) -> bool:
        """Whether that call ran out of time in the server's queue."""
        begun = error.final or self._latest > sent.answered + sent.under_way
        if begun or sent.under_way == 1 or error.clock not in _CLOCKS:
            return False
        return self._answered > sent.answered or sent.number <= self._behind

    def _lower(self, sent: _Sent, error: CallError) -> None:
        """Lower the limit, once for all calls that were sent under it."""
        if sent.limit > self._limit:
            return
        answered = self._answered - sent.answered or sent.under_way
        self._limit, self._in_time = max(1, min(answered, sent.under_way) // 2), 0
        log.warning(
            "%s lets calls wait until their time is up (%s, %d at once); it gets %d at once from "
            "now on, and what ran out of time is sent again",
            self._origin,
            error.label,
            sent.under_way,
            self._limit,
        )

    def _note_answer(self, sent: _Sent) -> None:
        self._answered += 1
        self._latest = max(self._latest, sent.answered)
        # The wait grows with the limit, so it is raised only after many answers in time.
        self._in_time += 1
        if self._in_time > _ANSWERS_TO_RAISE * self._limit:
            self._limit, self._in_time = self._limit + 1, 0


def _advice(sent: _Sent, answered: int) -> str:
    return (
        f"it most likely waited in the server's queue: {sent.under_way} calls were under way at "
        f"once, and the server answered {answered} in that time; lower the engine's "
        "max_concurrency, raise its timeout, or have the server answer more calls at once"
    )
