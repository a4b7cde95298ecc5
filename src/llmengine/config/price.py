"""What an engine costs: by the token, or by the hour."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

from llmengine.types.arguments import checked_fields
from llmengine.types.errors import InvalidFieldError

_NUMBERS = ("input", "output", "cached_input", "gpu_hour")


@checked_fields(InvalidFieldError)
@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of an engine in ``currency``; a number that is left out is not known, 0 is free.

    ``input``, ``output`` and ``cached_input`` are for a million tokens; cached tokens cost as much
    as others where ``cached_input`` is left out. ``gpu_hour`` is for an hour of the whole server,
    and is instead of the others.
    """

    input: float | None = None
    output: float | None = None
    cached_input: float | None = None
    gpu_hour: float | None = None
    currency: str = "USD"

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and value >= 0):
                msg = f"price {name!r} is {value!r}; give a number of at least 0"
                raise InvalidFieldError(msg)
        by_tokens = (self.input, self.output) != (None, None)
        if by_tokens == (self.gpu_hour is not None) or (by_tokens and self._incomplete):
            msg = "a price is {input: ..., output: ...} for a million tokens, or {gpu_hour: ...}"
            raise InvalidFieldError(msg)

    @property
    def _incomplete(self) -> bool:
        return self.input is None or self.output is None

    @classmethod
    def of(cls, value: Any) -> Self | None:
        """A price from a mapping of its fields, or a price or None as it is."""
        if value is None or isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            msg = f"a price is a mapping such as {{gpu_hour: 2.5}}, not {value!r}"
            raise InvalidFieldError(msg)
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(value) - set(known)):
            msg = f"unknown price {unknown[0]!r}; known are {', '.join(known)}"
            raise InvalidFieldError(msg)
        return cls(**value)
