"""The configuration of a limiter that several engines share, and the state of one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, Self

from llmengine.types.arguments import checked_fields, suggestion
from llmengine.types.errors import InvalidFieldError

AUTO: Literal["auto"] = "auto"
Concurrency = int | Literal["auto"] | None
_NUMBERS = ("requests_per_minute", "tokens_per_minute")


def as_concurrency(value: object) -> Concurrency:
    """A number of requests at once, "auto" or None; raises InvalidFieldError for anything else."""
    if value is None or value == AUTO:
        return None if value is None else AUTO
    try:
        number = int(value) if isinstance(value, (int, float, str)) else 0
    except (ValueError, OverflowError):
        number = 0
    if number < 1 or isinstance(value, bool) or (isinstance(value, float) and value != number):
        raise InvalidFieldError(f"is {value!r}; give a whole number of at least 1, or 'auto'")
    return number


@checked_fields(InvalidFieldError)
@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterConfig:
    """The limits that all engines with an equal LimiterConfig share in a process.

    ``max_concurrency`` is how many requests all of them together may have under way; "auto" finds
    the number by the goodput of the server. ``requests_per_minute`` and ``tokens_per_minute`` are
    evenly spaced. A limit that is left out is None, which means no limit. If the server answers
    429 to one of the engines, all of them wait.
    """

    name: str
    max_concurrency: Concurrency = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidFieldError(f"name is {self.name!r}; give the limiter a name")
        try:
            object.__setattr__(self, "max_concurrency", as_concurrency(self.max_concurrency))
        except InvalidFieldError as error:
            raise InvalidFieldError(f"max_concurrency {error}") from None
        for name in _NUMBERS:
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and value > 0):
                raise InvalidFieldError(f"{name} is {value!r}; give a number above 0")

    @classmethod
    def of(cls, value: object) -> Self | None:
        """A LimiterConfig from a mapping of its fields; one or None is returned as it is."""
        if value is None or isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            msg = (
                "a limiter is a mapping such as {name: gpu, max_concurrency: 32}, or in an "
                f"engines file the name of one that another engine has, not {value!r}"
            )
            raise InvalidFieldError(msg)
        known = [f.name for f in fields(cls)]
        if unknown := sorted(map(str, set(value) - set(known))):
            msg = f"{unknown[0]!r} is not a field of a limiter; {suggestion(unknown[0], known)}"
            raise InvalidFieldError(msg)
        if "name" not in value:
            raise InvalidFieldError("name is missing; engines share a limiter by its name")
        return cls(**value)


@dataclass(frozen=True, slots=True)
class LimiterState:
    """The state of an engine's limits at one moment.

    ``limit`` is how many requests the server may have at once, infinite if there is no limit;
    ``in_flight`` is how many of them are those of this engine, and ``waiting`` how many of its
    calls wait for their turn. ``tokens_left`` are the tokens that may be used now, None if they
    are not limited. ``pause`` is the seconds left of a pause that the server asked for, and
    ``is_refusing`` says that it gets one request at a time, because it goes on answering 429.
    """

    limit: float
    in_flight: int
    waiting: int
    tokens_left: float | None
    pause: float
    is_refusing: bool
