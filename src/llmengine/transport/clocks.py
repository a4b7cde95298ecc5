"""The clocks of a stream, as arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from llmengine.types.errors import APITimeoutError


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
