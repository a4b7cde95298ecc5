"""Normalizers: they replace the parts of a text that differ in each run, before it is compared.

``dates`` replaces dates and times, ``uuids`` replaces UUIDs, and ``numbers`` replaces numbers. Only
the comparison sees the result; requests are sent and recorded as they are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Normalize = Callable[[str], str]

_DAY = r"(?:(?:Mon|Tue(?:s)?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?,?\s+)?"
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?"
    r"|Sep(?:t(?:ember)?)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_NUMBER_OF_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_YEAR = r"(?:19|20)\d\d"
_ZONE = r"(?:\s?(?:Z|UTC|GMT|[+-]\d\d:?\d\d)\b)?"
_TIME = rf"[0-2]?\d:[0-5]\d(?::[0-6]\d(?:[.,]\d+)?)?(?:\s?(?:[AaPp]\.[Mm]\.|[AaPp][Mm]\b))?{_ZONE}"
_DATES = (
    rf"{_YEAR}[-/.]\d\d?[-/.]\d\d?",  # 2026-11-21
    rf"\d\d?[-/.]\d\d?[-/.]{_YEAR}",  # 21.11.2026
    r"\d\d?/\d\d?/\d\d",  # 11/21/26
    rf"{_DAY}{_NUMBER_OF_DAY}(?:\s+of)?[\s-]+{_MONTH},?[\s-]+{_YEAR}",  # Saturday, 21 November 2026
    rf"{_DAY}{_MONTH}\s+{_NUMBER_OF_DAY},?\s+{_YEAR}",  # November 21, 2026
    rf"{_DAY}{_MONTH}\s+\d\d?\s+{_TIME}\s+{_YEAR}",  # Sat Nov 21 10:00:00 2026
)
_DATE = re.compile(
    rf"(?<![\w.])(?:{'|'.join(_DATES)})(?:(?:T|,?\s+(?:at\s+)?){_TIME})?(?!\w|[:.]\d)",
    re.IGNORECASE,
)
_TIME_OF_DAY = re.compile(rf"(?<![\w:.]){_TIME}(?!\w|[:.]\d)")
_UUID = re.compile(
    r"(?<![0-9a-z])(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32})(?![0-9a-z])",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![A-Za-z_])\d+(?:[.,]\d+)*(?:[eE][+-]?\d+)?(?![A-Za-z_])")


def _dates(text: str) -> str:
    return _TIME_OF_DAY.sub("<time>", _DATE.sub("<date>", text))


def _uuids(text: str) -> str:
    return _UUID.sub("<uuid>", text)


def _numbers(text: str) -> str:
    return _NUMBER.sub("<number>", text)


NORMALIZERS: dict[str, Normalize] = {"dates": _dates, "uuids": _uuids, "numbers": _numbers}


def normalized(value: object, functions: tuple[Normalize, ...]) -> object:
    """A JSON value with the functions applied to every string in it, one after the other.

    The member ``model`` of a request is left as it is, because a date or a number is a part of the
    name of a model.
    """
    if isinstance(value, dict):
        return {
            key: item if key == "model" else _normalized(item, functions)
            for key, item in value.items()
        }
    return _normalized(value, functions)


def _normalized(value: object, functions: tuple[Normalize, ...]) -> object:
    if isinstance(value, str):
        for function in functions:
            value = function(value)
            if not isinstance(value, str):
                raise TypeError(f"the normalizer {function!r} returned {value!r}; return a str")
        return value
    if isinstance(value, dict):
        return {key: _normalized(item, functions) for key, item in value.items()}
    if isinstance(value, list):
        return [_normalized(item, functions) for item in value]
    return value
