"""The outcomes of a check, and how a check function ends with one."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import NoReturn

_MAX_SHOWN = 300


def quote(value: object) -> str:
    """A short quotation of a server's answer for a reason: text or JSON, up to 300 characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def shortened(text: str, limit: int) -> str:
    """A text up to `limit` characters, with the number of characters that are left out."""
    left_out = len(text) - limit
    return text if left_out <= 0 else f"{text[:limit]}... ({left_out} more characters)"


class Outcome(StrEnum):
    """The verdict of one check on one target.

    The last three are not verdicts. An error fails the run, and so does a check that was not run. A
    check without a recording does not fail it.
    """

    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"
    REFUSED = "refused"
    IGNORED = "ignored"
    DEVIATES = "deviates"
    UNMEASURED = "unmeasured"
    ERROR = "error"
    NOT_RUN = "not_run"
    UNRECORDED = "unrecorded"


class CheckEnded(Exception):  # noqa: N818 - a verdict is not an error
    """Ends a check with an outcome other than a pass, and the reason for it."""

    outcome: Outcome = Outcome.FAIL


class Fail(CheckEnded):
    """The rule is broken."""


class Refused(CheckEnded):
    """The server does not support the feature and reports that with a clear 4xx or 501."""

    outcome = Outcome.REFUSED


class Ignored(CheckEnded):
    """The server accepted the request but silently ignored a part of it."""

    outcome = Outcome.IGNORED


class Unmeasured(CheckEnded):
    """The outcome cannot be known in this mode."""

    outcome = Outcome.UNMEASURED


class NoVerdict(CheckEnded):
    """There is no verdict, because no answer came or it came too late. The run fails."""

    outcome = Outcome.ERROR


def fail(reason: str) -> NoReturn:
    """End the check as failed."""
    raise Fail(reason)


def expect(condition: object, reason: str) -> None:
    """Fail with `reason` unless the condition is true; ``-O`` would remove an `assert`."""
    if not condition:
        raise Fail(reason)


def expect_effect(condition: object, reason: str) -> None:
    """End as ignored unless the condition is true: the request was accepted without effect."""
    if not condition:
        raise Ignored(reason)
