"""Short quotations of what a server said, for reasons that people read.

What a check can come to, and how its function says so.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import NoReturn

_MAX_SHOWN = 300


def quote(value: object) -> str:
    """Text as it is, anything else as JSON, cut after 300 characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


class Outcome(StrEnum):
    """The verdict of one check on one target.

    The last three are no verdicts: an error and a check that was not run fail the run, and a check
    of which there is no recording yet does not.
    """

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    REFUSED = "refused"
    IGNORED = "ignored"
    DEVIATES = "deviates"
    UNMEASURED = "unmeasured"
    ERROR = "error"
    NOT_RUN = "not_run"
    UNRECORDED = "unrecorded"


class CheckEnded(Exception):  # noqa: N818 - a verdict is not an error of ours
    """Ends a check with an outcome other than a pass, and the reason for it."""

    outcome: Outcome = Outcome.FAIL


class Fail(CheckEnded):
    """The rule is broken."""


class Refused(CheckEnded):
    """The server does not support it and said so with a clear 4xx (or 501)."""

    outcome = Outcome.REFUSED


class Ignored(CheckEnded):
    """The server accepted the request and silently did not do it."""

    outcome = Outcome.IGNORED


class Unmeasured(CheckEnded):
    """It cannot be known in this mode."""

    outcome = Outcome.UNMEASURED


class NoVerdict(CheckEnded):
    """Nothing can be said of the rule: no answer came, or not in time. The run fails."""

    outcome = Outcome.ERROR


def fail(reason: str) -> NoReturn:
    """End the check as failed."""
    raise Fail(reason)


def expect(condition: object, reason: str) -> None:
    """Fail with `reason` unless the condition is true; `assert` would vanish under ``-O``."""
    if not condition:
        raise Fail(reason)


def expect_effect(condition: object, reason: str) -> None:
    """End as ignored unless the condition is true: the request was accepted without effect."""
    if not condition:
        raise Ignored(reason)
