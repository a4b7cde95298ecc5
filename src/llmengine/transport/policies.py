"""The rules for requests to one server: its queue and retries."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, TypeVar

from llmengine.transport.limiter import QueuePlace, Slots, outcome_of
from llmengine.types.errors import APITimeoutError, CallError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llmengine.transport.limiter import EngineShare, Permit
    from llmengine.transport.rates import RequestSize

log = logging.getLogger("llmengine")

T = TypeVar("T")


# The clocks that run while a call waits in a server's queue.
_CLOCKS = frozenset({"total", "first_token"})
# The limit is raised by one after this many answers in time per call of the limit.
_ANSWERS_TO_RAISE = 16


class ServerQueue(Slots):
    """Limits the calls that one server has at once for one model; used on the background loop.

    Ollama and llama.cpp accept every request at once and answer one or a few of them at a time.
    The other requests wait with an open connection, so their clocks run although the server does
    nothing for them.

    There is no limit until a call runs out of time in the server's queue. A call that ran out of
    time is taken to have waited in the queue if the server answered other calls in the meantime,
    or if the call was sent behind another one that waited in vain. It is not taken so if a later
    call was answered that was sent when all calls before this one could have been answered,
    because then the server must have begun with this call.
    """

    def __init__(self, origin: str) -> None:
        super().__init__()
        self._origin = origin
        self._sent = self._answered = 0
        self._latest = 0  # ``QueuePlace.answered`` of the call sent last among those answered
        self._behind = 0  # calls up to this number were sent behind one that waited in vain
        self._in_time = 0  # calls answered since the limit was changed

    def enter(self, permit: Permit) -> None:
        """Note that a call is sent to the server."""
        super().enter(permit)
        self._sent += 1
        permit.place = QueuePlace(self._sent, self._answered, self.taken, self.limit)

    async def attempt(
        self,
        once: Callable[[Permit], Awaitable[T]],
        share: EngineShare,
        size: RequestSize | None,
        patience: float,
        *,
        again: bool,
    ) -> T:
        """The result of `once`, which is called with a permit of `share`.

        An attempt that ran out of time in the server's queue lowers the limit. If `again` is
        true, it is made again, each time under a lower limit. Otherwise its error is raised with
        advice on the queue.
        """
        tried: float | None = None
        while True:
            with share.try_acquire(size) or await share.acquire(size, patience) as permit:
                sent = permit.place
                try:
                    answer = await once(permit)
                except APITimeoutError as error:
                    if sent is None or not self._has_waited(sent, error):
                        raise
                    self._behind = self._sent
                    if not again or (tried is not None and sent.limit >= tried):
                        error.advise(_advice(sent, self._answered - sent.answered))
                        raise
                    tried = sent.limit
                    self._lower(sent, error)
                    permit.outcome = outcome_of(error)
                else:
                    if sent is not None:
                        self._note_answer(sent)
                    return answer

    def _has_waited(self, sent: QueuePlace, error: CallError) -> bool:
        """Whether the call ran out of time in the server's queue."""
        begun = error.final or self._latest > sent.answered + sent.under_way
        if begun or sent.under_way == 1 or error.clock not in _CLOCKS:
            return False
        return self._answered > sent.answered or sent.number <= self._behind

    def _lower(self, sent: QueuePlace, error: CallError) -> None:
        """Lower the limit, but only once for all calls that were sent under the same limit."""
        if sent.limit > self.limit:
            return
        answered = self._answered - sent.answered or sent.under_way
        self.limit, self._in_time = max(1, min(answered, sent.under_way) // 2), 0
        log.warning(
            "%s does not answer all calls in time (%s, with %d calls at once); from now on it gets "
            "at most %d calls at once, and the calls that ran out of time are sent again",
            self._origin,
            error.label,
            sent.under_way,
            self.limit,
        )

    def _note_answer(self, sent: QueuePlace) -> None:
        self._answered += 1
        self._latest = max(self._latest, sent.answered)
        # The wait grows with the limit, so the limit is raised only after many answers in time.
        self._in_time += 1
        if self._in_time > _ANSWERS_TO_RAISE * self.limit:
            self.limit, self._in_time = self.limit + 1, 0


def _advice(sent: QueuePlace, answered: int) -> str:
    return (
        f"it probably waited in the server's queue: {sent.under_way} calls were under way at the "
        f"same time, and the server answered {answered} of them; set a smaller max_concurrency or "
        "a larger timeout for the engine, or let the server answer more calls at once"
    )


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
    attempt = 0
    while True:
        attempt += 1
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
