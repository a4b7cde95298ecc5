"""A circuit breaker for a server that goes on answering 429."""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING

from llmengine.transport.adaptive import RequestOutcome

if TYPE_CHECKING:
    from llmengine.transport.adaptive import Ending

log = logging.getLogger("llmengine")


class CircuitBreaker:
    """How many requests a server may have at once while it answers 429 again and again.

    Normally that is any number. If a request is refused that was sent after an earlier refusal,
    and none was answered in between, the breaker opens: one request at a time is sent, as a trial.
    Each answer then allows one request more, so that the number doubles per round trip, until it
    is what it was before.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._refused_at: float | None = None  # the last refusal, if no answer came after it
        self._former = 0  # the number in flight when the breaker opened
        self.limit = inf
        self.watches_answers = False  # whether an answer would change anything

    @property
    def is_open(self) -> bool:
        """Whether the server has answered nothing since the breaker opened."""
        return self.limit == 1

    def ended(self, ending: Ending) -> None:
        """Take note of the end of a request."""
        if self._refused_at is not None and ending.sent_at <= self._refused_at:
            return  # it was sent before the refusal, so it shows nothing new
        if ending.outcome is RequestOutcome.RATE_LIMITED:
            self._note_refusal(ending)
        elif ending.outcome is RequestOutcome.ANSWERED:
            self._note_answer()

    def _note_refusal(self, ending: Ending) -> None:
        if self.limit < inf:
            self.limit = max(1, self.limit // 2)
        elif self._refused_at is not None:
            self.limit, self._former = 1, ending.in_flight
            log.warning(
                "%s goes on answering HTTP 429: it gets one call at a time until it answers one",
                self._origin,
            )
        self._refused_at = ending.now
        self.watches_answers = True

    def _note_answer(self) -> None:
        self._refused_at = None
        if self.is_open:
            log.info("%s answers again", self._origin)
        self.limit += 1
        if self.limit >= self._former:
            self.limit = inf
            self.watches_answers = False
