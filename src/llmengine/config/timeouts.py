"""The clocks of a call."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

from llmengine.transport.policies import LONGEST_RETRY_AFTER
from llmengine.types.arguments import checked_fields
from llmengine.types.errors import InvalidFieldError


@checked_fields(InvalidFieldError)
@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each phase of a call may take, in seconds; None never ends it.

    ``connect`` is for the connection. ``first_token`` and ``gap`` hold for streams: until the
    first generated content, and between two pieces of it (keep-alive comments do not count).
    ``total`` starts when the request is sent, not while it waits for its turn. ``wait`` is how
    long a call waits before one attempt because the server asks for it: for its own
    ``Retry-After``, and for the pause after a 429 to another call. A server that asks for longer
    ends the call at once.
    """

    connect: float | None = 10.0
    first_token: float | None = None
    gap: float | None = None
    total: float | None = 60.0
    wait: float | None = LONGEST_RETRY_AFTER

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and (not number or value <= 0):
                msg = f"timeout {field.name!r} is {value!r}; give seconds above 0, or null for none"
                raise InvalidFieldError(msg)

    @classmethod
    def of(cls, value: Any) -> Self:
        """Timeouts from a number (the total), a mapping of clocks, or timeouts as they are."""
        if isinstance(value, cls):
            return value
        if isinstance(value, dict):
            known = [f.name for f in fields(cls)]
            if unknown := sorted(set(value) - set(known)):
                msg = f"unknown clock {unknown[0]!r}; the clocks are {', '.join(known)}"
                raise InvalidFieldError(msg)
            return cls(**value)
        return cls(total=value)
