"""The queue of a server that answers a few calls at a time and lets all other calls wait.

Ollama and llama.cpp accept every request at once and answer one or a few of them at a time. The
other requests wait with an open connection, so their clocks run although the server does nothing
for them.
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
# The limit is raised by one after this many answers in time per call of the limit.
_ANSWERS_TO_RAISE = 16


@dataclass(slots=True)  # not frozen, because a frozen one takes four times as long to create
class _Sent:
    """One call, and the state of the queue when it was sent.

    ``number`` is the number of calls that were sent, and ``answered`` the number of calls that
    were answered by then. ``under_way`` is the number of calls that the server had, including
    this one, and ``limit`` is the limit at that time.
    """

    number: int
    answered: int
    under_way: int
    limit: float


class ServerQueue:
    """Limits the calls that one server has at once for one model; used on the background loop.

    There is no limit until a call runs out of time in the server's queue. A call that ran out of
    time is taken to have waited in the queue if the server answered other calls in the meantime,
    or if the call was sent behind another one that waited in vain. It is not taken so if a later
    call was answered that was sent when all calls before this one could have been answered,
    because then the server must have begun with this call.
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
        """The result of `once`, which is called after `turn` and when the limit allows it.

        An attempt that ran out of time in the server's queue lowers the limit. If `again` is
        true, it is made again, each time under a lower limit. Otherwise its error is raised with
        advice on the queue.
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
        """Whether the call ran out of time in the server's queue."""
        begun = error.final or self._latest > sent.answered + sent.under_way
        if begun or sent.under_way == 1 or error.clock not in _CLOCKS:
            return False
        return self._answered > sent.answered or sent.number <= self._behind

    def _lower(self, sent: _Sent, error: CallError) -> None:
        """Lower the limit, but only once for all calls that were sent under the same limit."""
        if sent.limit > self._limit:
            return
        answered = self._answered - sent.answered or sent.under_way
        self._limit, self._in_time = max(1, min(answered, sent.under_way) // 2), 0
        log.warning(
            "%s does not answer all calls in time (%s, with %d calls at once); from now on it gets "
            "at most %d calls at once, and the calls that ran out of time are sent again",
            self._origin,
            error.label,
            sent.under_way,
            self._limit,
        )

    def _note_answer(self, sent: _Sent) -> None:
        self._answered += 1
        self._latest = max(self._latest, sent.answered)
        # The wait grows with the limit, so the limit is raised only after many answers in time.
        self._in_time += 1
        if self._in_time > _ANSWERS_TO_RAISE * self._limit:
            self._limit, self._in_time = self._limit + 1, 0


def _advice(sent: _Sent, answered: int) -> str:
    return (
        f"it probably waited in the server's queue: {sent.under_way} calls were under way at the "
        f"same time, and the server answered {answered} of them; set a smaller max_concurrency or "
        "a larger timeout for the engine, or let the server answer more calls at once"
    )
