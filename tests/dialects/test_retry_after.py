"""How long a server asks to wait."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from llmengine.dialects.errors import retry_after

NOON = "Sat, 21 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"Retry-After": "0.25"}, 0.25),
        ({"RETRY-AFTER": " 3 "}, 3.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "7"}, 7.0),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT", "Date": NOON}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT", "Date": NOON}, 0.0),
    ],
)
def test_headers(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, fractions, milliseconds and dates are read; any other value is ignored."""
    assert retry_after(headers) == seconds


def test_a_date_counts_from_now_without_the_answers_own() -> None:
    """Without a Date header this machine's clock is used."""
    seconds = retry_after({"retry-after": formatdate(time.time() + 100, usegmt=True)})
    assert seconds == pytest.approx(100, abs=5)
