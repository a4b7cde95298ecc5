"""The formats of strings in JSON schemas: a sample of each, and a checker for most of them."""

from __future__ import annotations

import re
from functools import cache, partial

from jsonschema import FormatChecker

# A string of each format in JSON Schema; a star marks the place where it can be made longer.
SAMPLES = {
    "date-time": "2026-01-02T03:04:05Z",
    "date": "2026-01-02",
    "time": "03:04:05Z",
    "duration": "P1DT2H",
    "email": "user*@example.com",
    "idn-email": "user*@example.com",
    "hostname": "host*.example.com",
    "idn-hostname": "host*.example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/*",
    "uri-reference": "/path/*",
    "iri": "https://example.com/*",
    "iri-reference": "/path/*",
    "uri-template": "/path/*{id}",
    "uuid": "12345678-1234-4234-8234-123456789012",
    "json-pointer": "/path/*",
    "relative-json-pointer": "0/*",
    "regex": "^a*$",
    "byte": "bW9jaw==",
}

_DATE = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_PATTERNS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}[Tt ]{_TIME}",
    "duration": r"P(?=.)([0-9]+Y)?([0-9]+M)?([0-9]+W)?([0-9]+D)?"
    r"(T(?=.)([0-9]+H)?([0-9]+M)?([0-9]+S)?)?",
    "email": r"[^@\s]+@[^@\s]+",
    "hostname": rf"{_LABEL}(\.{_LABEL})*",
    "uri": r"[A-Za-z][A-Za-z0-9+.-]*:\S*",
    "uuid": r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
}


@cache
def format_checker() -> FormatChecker:
    """A checker of formats that does not depend on the packages that are installed.

    The checkers of jsonschema for times and URIs exist only with other packages.
    """
    checker = FormatChecker(("ipv4", "ipv6", "regex"))
    for name, pattern in _PATTERNS.items():
        checker.checks(name)(partial(_matches, re.compile(pattern)))
    return checker


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return not isinstance(value, str) or pattern.fullmatch(value) is not None
