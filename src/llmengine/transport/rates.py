"""When the next request may be sent: pauses that a server asks for, and rates per minute.

The classes here do no I/O and start no timers; each gets the time from its caller.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("llmengine")

# Pauses that follow each other within this many seconds are logged as a warning once.
_SAME_SERIES = 60.0
_MINUTE = 60.0


class Pause:
    """The time in which nothing is sent, because the server answered 429.

    ``origin`` is the server that asked last.
    """

    def __init__(self) -> None:
        self.origin = ""
        self.ends_at = 0.0
        self._began_at = 0.0
        self._before = 0.0  # the sum of all pauses before this one
        self._logged = 0.0  # the longest pause that was logged in the present series of pauses

    def begin(self, origin: str, seconds: float, now: float) -> None:
        """Pause for that many seconds, or prolong the present pause."""
        self.origin = origin
        if now >= self.ends_at:
            if now - self.ends_at > _SAME_SERIES:
                self._logged = 0.0
            self._before += self.ends_at - self._began_at
            self._began_at = now
        self.ends_at = max(self.ends_at, now + seconds)
        if seconds > self._logged:
            self._logged = seconds
            log.warning(
                "%s asks to wait %.3g s (HTTP 429): no call with this key is sent until then",
                origin,
                seconds,
            )

    def left(self, now: float) -> float:
        """The seconds that are left of the pause; 0.0 if there is none."""
        return max(0.0, self.ends_at - now)

    def total(self, now: float) -> float:
        """The seconds that were spent in pauses until now, in all pauses together."""
        return self._before + min(now, self.ends_at) - self._began_at


class RequestRate:
    """Spaces requests evenly; each caller has its own rate, and all share the next free moment."""

    def __init__(self) -> None:
        self.free_at = 0.0

    def take(self, per_minute: float, now: float) -> None:
        """Note that a request is sent now."""
        self.free_at = now + _MINUTE / per_minute


# So many seconds' worth of tokens may be used at once after the budget was not used for a while.
_BURST = 5.0
_TOKENS_PER_BYTE = 0.3
_TOKENS_PER_ANSWER = 256.0
# How much one request changes what was learned from the requests before it.
_LEARNED = 0.1


class RequestSize(NamedTuple):
    """What is known of the size of a request before it is sent."""

    prompt_bytes: int
    max_tokens: int | None = None


class TokenRate:
    """Spaces requests by their tokens, of prompt and answer together.

    What a request will use is estimated before it is sent, and corrected when its usage is known.
    As with RequestRate, each caller has its own rate.
    """

    def __init__(self) -> None:
        self._spent_until = 0.0  # when the tokens that were used so far will be earned
        self._per_byte = _TOKENS_PER_BYTE
        self._per_answer = _TOKENS_PER_ANSWER

    @property
    def free_at(self) -> float:
        """When the next request may be sent."""
        return self._spent_until - _BURST

    def left(self, per_minute: float, now: float) -> float:
        """The tokens that may be used now; below 0 if more were used than there were."""
        return (now - max(self._spent_until, now - _BURST) + _BURST) * per_minute / _MINUTE

    def estimate(self, size: RequestSize) -> float:
        """The tokens that a request will probably use."""
        answer = self._per_answer if size.max_tokens is None else size.max_tokens
        return size.prompt_bytes * self._per_byte + answer

    def take(self, tokens: float, per_minute: float, now: float) -> None:
        """Note that a request is sent now that will use that many tokens."""
        self._spent_until = max(self._spent_until, now) + tokens * _MINUTE / per_minute

    def correct(self, tokens: float, per_minute: float) -> None:
        """Pay what a request has used beyond the estimate, or get it back if that is below 0."""
        self._spent_until += tokens * _MINUTE / per_minute

    def learn(self, size: RequestSize, prompt_tokens: int, completion_tokens: int) -> None:
        """Improve later estimates by the usage of one request."""
        if size.prompt_bytes:
            found = prompt_tokens / size.prompt_bytes
            self._per_byte += _LEARNED * (found - self._per_byte)
        self._per_answer += _LEARNED * (completion_tokens - self._per_answer)

    def read(self, headers: Mapping[str, str], per_minute: float, now: float) -> None:
        """Send less if the server's own count says that fewer tokens are left."""
        try:
            left = float(headers.get("x-ratelimit-remaining-tokens", ""))
        except ValueError:
            return
        if 0 <= left < self.left(per_minute, now):
            self._spent_until = now + _BURST - left * _MINUTE / per_minute
