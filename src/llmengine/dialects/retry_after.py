"""How long a server asks to wait, from the headers of its answer."""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, at least 0, or None if the server named no time that can be read.

    ``retry-after-ms`` (OpenAI, Azure) goes before ``retry-after``, which holds seconds or a date
    (RFC 9110, section 10.2.3). A date counts from the answer's own ``date``, so that the two
    clocks need not agree.
    """
    milliseconds = _number(header(headers, "retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = header(headers, "retry-after")
    seconds = _number(value)
    return seconds if seconds is not None else _until(value, header(headers, "date"))


def header(headers: Mapping[str, str], name: str) -> str | None:
    """A header by its lower-case name, also from a mapping that minds the case."""
    value = headers.get(name)
    if value is None:
        value = next((v for k, v in headers.items() if k.lower() == name), None)
    return value


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return max(number, 0.0) if math.isfinite(number) else None


def _until(value: str | None, now: str | None) -> float | None:
    at = _timestamp(value)
    if at is None:
        return None
    sent = _timestamp(now)
    return max(at - (time.time() if sent is None else sent), 0.0)


def _timestamp(value: str | None) -> float | None:
    try:
        return parsedate_to_datetime(value or "").timestamp()
    except (ValueError, OverflowError, IndexError, TypeError):  # the parser lets all of them out
        return None
