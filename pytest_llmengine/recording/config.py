"""How a project records and replays: what is redacted, what is compared, how answers are played."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

from llmengine.types.arguments import suggestion
from llmengine.types.errors import InvalidFieldError
from pytest_llmengine.recording.json_path import JSONPath
from pytest_llmengine.recording.normalizers import NORMALIZERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vcr.request import Request as VcrRequest

    from pytest_llmengine.recording.chunks import Rechunk
    from pytest_llmengine.recording.normalizers import Normalize

    Redact = Callable[[str], str]
    Matcher = Callable[[VcrRequest, VcrRequest], bool | None]
    Timing = Literal["instant", "recorded"]
    RecordMode = Literal["none", "once", "new_episodes", "all"]
    Expired = Literal["warn", "fail"]


RECORD_MODES = ("none", "once", "new_episodes", "all")


class Clock(Protocol):
    """The time of a recorder or a replayer, in seconds."""

    def time(self) -> float:
        """The present time; only differences count."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        ...


class SystemClock:
    """The time of the system."""

    def time(self) -> float:
        """The present time; only differences count."""
        return time.perf_counter()

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        await asyncio.sleep(seconds)


_SYSTEM_CLOCK = SystemClock()


def _today() -> date:
    return datetime.now(UTC).date()


class RecordingOptions(TypedDict, total=False):
    """The options of a recording, as a dictionary in which any may be left out.

    Redaction, in a recording and for the requests of a replay:

    - ``redact``: a function, or several, from text to text, applied to bodies, URLs and headers.
      It must return the same for the same text and must not change its own output.
    - ``redact_headers``: names of headers that are dropped; a value of 12 or more characters that
      a request has in one of them is also removed everywhere else.
    - ``redact_paths``: JSON paths in bodies, also in the events of streams.

    Matching, wherever a recorded answer is looked for:

    - ``match_on``: what must be equal: any of "method", "path", "query" and "body", and functions
      of two requests of vcrpy, the new and the recorded one, as in vcrpy.
    - ``ignore_paths``: JSON paths in the bodies of requests that are not compared.
    - ``normalize``: what is replaced in the strings of JSON bodies before they are compared: any
      of "dates", "uuids" and "numbers", and functions from text to text.

    A function may also be given by its name, as ``package.module:function``.

    Recording:

    - ``record_mode``: "all" records every request and replaces the cassette. "once" plays a
      cassette that exists and records one that does not. "new_episodes" plays what is recorded
      and adds the rest. "none" records nothing. These are the names of vcrpy.
    - ``record_on_exception``: let the recording of a failed test or block replace a cassette.
    - ``volatile_paths``: JSON paths in the bodies of answers, in addition to ids and times, that
      differ in each recording. If nothing else has changed, the earlier exchange is kept.

    The age of a cassette, if it is played:

    - ``max_age``: the largest age, in days. ``expired`` says what happens to an older cassette:
      "warn" or "fail". ``today`` is used instead of the system's date, in UTC.

    Playing, in a replay:

    - ``timing``: "instant", or "recorded" to wait as long as the server did. ``speed`` divides
      the recorded times: 2.0 is twice as fast. ``clock`` is used instead of the system's clock.
    - ``rechunk`` cuts bodies in another way: "bytes" (single bytes), "whole", "inside-characters"
      (within every character of several bytes), a chunk size, or byte positions.
    - ``repeats``: play the last answer again if a request is made more often than recorded.
    """

    redact: Redact | Sequence[Redact]
    redact_headers: Sequence[str]
    redact_paths: Sequence[str]
    match_on: Sequence[str | Matcher]
    ignore_paths: Sequence[str]
    normalize: str | Normalize | Sequence[str | Normalize]
    record_mode: RecordMode | None
    record_on_exception: bool
    volatile_paths: Sequence[str]
    max_age: int | None
    expired: Expired
    today: Callable[[], date]
    timing: Timing
    speed: float
    rechunk: Literal["bytes", "whole", "inside-characters"] | int | Sequence[int] | None
    repeats: bool
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingConfig:
    """Checked `RecordingOptions`; see there for the meaning of each field."""

    redact: tuple[Redact, ...] = ()
    redact_headers: tuple[str, ...] = ()
    redact_paths: tuple[JSONPath, ...] = ()
    match_on: tuple[str | Matcher, ...] = ("method", "path", "query", "body")
    ignore_paths: tuple[JSONPath, ...] = ()
    normalize: tuple[Normalize, ...] = ()
    record_mode: RecordMode | None = None
    record_on_exception: bool = False
    volatile_paths: tuple[JSONPath, ...] = ()
    max_age: int | None = None
    expired: Expired = "warn"
    today: Callable[[], date] = _today
    timing: Timing = "instant"
    speed: float = 1.0
    rechunk: Rechunk | None = None
    repeats: bool = False
    clock: Clock = _SYSTEM_CLOCK

    def extended(self, options: object, source: str = "") -> RecordingConfig:
        """A copy with further options, which are a mapping such as RecordingOptions.

        Redactions, paths and normalizers are added to those of this configuration; every other
        option replaces its value. Raises InvalidFieldError, which names the option and `source`,
        the place that the options come from.
        """
        where = f"{source}: " if source else ""
        if not isinstance(options, Mapping):
            kind = type(options).__name__
            raise InvalidFieldError(
                f"{where}recording options are a dict such as {{'ignore_paths': ['$.user']}}, "
                f"not {kind}"
            )
        changed: dict[str, Any] = {}
        for name, value in options.items():
            if name not in _CHECKS:
                raise InvalidFieldError(
                    f"{where}{name!r} is not a recording option; {suggestion(str(name), _CHECKS)}"
                )
            try:
                checked = _CHECKS[name](value)
            except ValueError as error:
                raise InvalidFieldError(f"{where}{name}: {error}") from error
            changed[name] = getattr(self, name) + checked if name in _ADDED else checked
        return replace(self, **changed)


def _sequence(value: object, what: str) -> tuple[object, ...]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidFieldError(f"give a list of {what}, not {value!r}")
    return tuple(value)


def _functions(value: object) -> tuple[object, ...]:
    given = (value,) if callable(value) else _sequence(value, "functions from text to text")
    for one in given:
        if not callable(one):
            raise InvalidFieldError(f"give a function from text to text, or several, not {one!r}")
    return given


def _header_names(value: object) -> tuple[str, ...]:
    given = _sequence(value, "header names")
    if wrong := [name for name in given if not isinstance(name, str)]:
        raise InvalidFieldError(f"the name of a header is a text, not {wrong[0]!r}")
    return tuple(str(name).lower() for name in given)


def _paths(value: object) -> tuple[JSONPath, ...]:
    given = _sequence(value, "JSON paths")
    if wrong := [path for path in given if not isinstance(path, str)]:
        raise InvalidFieldError(f"a JSON path is a text, not {wrong[0]!r}")
    return tuple(JSONPath.parse(str(path)) for path in given)


_PARTS = ("method", "path", "query", "body")


def _matchers(value: object) -> tuple[object, ...]:
    given = _sequence(value, "matchers")
    return tuple(one if one in _PARTS else _function(one, "matcher", _PARTS) for one in given)


def _normalizers(value: object) -> tuple[object, ...]:
    alone = callable(value) or isinstance(value, str)
    given = (value,) if alone else _sequence(value, "normalizers")
    return tuple(
        NORMALIZERS[one]
        if isinstance(one, str) and one in NORMALIZERS
        else _function(one, "normalizer", NORMALIZERS)
        for one in given
    )


def _function(value: object, what: str, known: Iterable[str]) -> object:
    """A function, or the one that ``package.module:function`` names."""
    if callable(value):
        return value
    if not isinstance(value, str) or ":" not in value:
        raise InvalidFieldError(
            f"{value!r} is neither a function nor a known {what}; {suggestion(str(value), known)}"
        )
    module, _, name = value.partition(":")
    try:
        found: object = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidFieldError(f"{value!r} cannot be imported: {error}") from error
    if not callable(found):
        raise InvalidFieldError(f"{value!r} is {found!r}; name a function")
    return found


def _one_of(*values: object) -> Callable[[object], object]:
    """A check that takes only these values."""
    names = [repr(value) for value in values]

    def check(value: object) -> object:
        if value not in values or isinstance(value, bool) is not isinstance(values[0], bool):
            raise InvalidFieldError(f"is {value!r}; give {', '.join(names[:-1])} or {names[-1]}")
        return value

    return check


def _days(value: object) -> object:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise InvalidFieldError(f"is {value!r}; give a number of days, such as 30")


def _date_function(value: object) -> object:
    if not callable(value):
        raise InvalidFieldError(f"is {value!r}; give a function that returns a datetime.date")
    return value


def _speed(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise InvalidFieldError(f"is {value!r}; give a number above 0")
    return value


def _rechunk(value: object) -> object:
    if value is None or value in ("bytes", "whole", "inside-characters"):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        positions = tuple(value)
        if all(isinstance(position, int) for position in positions):
            return positions
    raise InvalidFieldError(
        f"is {value!r}; give 'bytes', 'whole', 'inside-characters', a chunk size above 0, "
        "or a list of byte positions"
    )


def _clock(value: object) -> object:
    if not (hasattr(value, "time") and hasattr(value, "sleep")):
        raise InvalidFieldError(
            f"is {value!r}; give an object with time() and async sleep(seconds)"
        )
    return value


_CHECKS: dict[str, Callable[[object], Any]] = {
    "redact": _functions,
    "redact_headers": _header_names,
    "redact_paths": _paths,
    "match_on": _matchers,
    "ignore_paths": _paths,
    "normalize": _normalizers,
    "record_mode": _one_of(None, *RECORD_MODES),
    "record_on_exception": _one_of(True, False),
    "volatile_paths": _paths,
    "max_age": _days,
    "expired": _one_of("warn", "fail"),
    "today": _date_function,
    "timing": _one_of("instant", "recorded"),
    "speed": _speed,
    "rechunk": _rechunk,
    "repeats": _one_of(True, False),
    "clock": _clock,
}
_ADDED = frozenset(
    {
        "redact",
        "redact_headers",
        "redact_paths",
        "ignore_paths",
        "normalize",
        "volatile_paths",
    }
)
