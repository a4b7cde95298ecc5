"""The outcomes of a check, and how a check function ends with one."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import NoReturn

_MAX_SHOWN = 300


def quote(value: object) -> str:
    """A short quotation of a server's answer for a reason: text or JSON, up to 300 characters.

    It stands in curly quotes, and none are left inside, so that `kind_of` can leave it out.
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = text.translate(_STRAIGHT)
    return f"“{text}”" if len(text) <= _MAX_SHOWN else f"“{text[:_MAX_SHOWN]}...”"


_STRAIGHT = str.maketrans("“”", '""')
_QUOTED = re.compile(
    r"""“[^”]*”|(?<!\w)'(?:[^'\\]|\\.)*'(?!\w)|(?<!\w)"(?:[^"\\]|\\.)*"(?!\w)|\[[^\]]*\]""",
    re.DOTALL,
)
_NUMBER = re.compile(r"\b(?P<status>\d{3})(?= instead of )|(?<![\w.])-?\d+(?:[.,]\d+)*")


def kind_of(reason: str) -> str:
    """The kind of a reason: the reason without quotations, lists and numbers.

    Two runs that break a rule in the same way have reasons of the same kind, although the model's
    words, the counts and the times differ. A status before "instead of" stays, because another
    status is another way to break the rule.
    """
    kind = _NUMBER.sub(lambda m: m["status"] or "#", _QUOTED.sub("…", reason))
    return " ".join(kind.split())


def shortened(text: str, limit: int) -> str:
    """A text up to `limit` characters, with the number of characters that are left out."""
    left_out = len(text) - limit
    return text if left_out <= 0 else f"{text[:limit]}... ({left_out} more characters)"


CUT = re.compile(r"\.\.\. \(\d+ more characters\)$")
"""The end of a text that `shortened` has cut."""


class Outcome(StrEnum):
    """The verdict of one check on one target.

    A lenient server accepts more than OpenAI does, so no client of OpenAI's breaks on it. The last
    three are not verdicts. An error fails the run, and so does a check that was not run. A check
    without a recording does not fail it.
    """

    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"
    REFUSED = "refused"
    IGNORED = "ignored"
    LENIENT = "lenient"
    DEVIATES = "deviates"
    UNMEASURED = "unmeasured"
    ERROR = "error"
    NOT_RUN = "not_run"
    UNRECORDED = "unrecorded"


class CheckEnded(Exception):  # noqa: N818 - a verdict is not an error
    """Ends a check with an outcome other than a pass, and the reason for it.

    ``fact`` is a short name of the cause, such as "logprobs are dropped". Verdicts with the same
    fact count as one finding: the first is the cause, and the others follow from it. The module
    `facts` has the names that rules of several groups use.
    """

    outcome: Outcome = Outcome.FAIL

    def __init__(self, reason: str, *, fact: str = "") -> None:
        super().__init__(reason)
        self.fact = fact


class Fail(CheckEnded):
    """The rule is broken."""


class Refused(CheckEnded):
    """The server does not support the feature and reports that with a clear 4xx or 501."""

    outcome = Outcome.REFUSED


class Ignored(CheckEnded):
    """The server accepted the request but silently ignored a part of it."""

    outcome = Outcome.IGNORED


class Lenient(CheckEnded):
    """The server accepts more than OpenAI does, and does what was asked."""

    outcome = Outcome.LENIENT


class Unmeasured(CheckEnded):
    """The outcome cannot be known in this mode."""

    outcome = Outcome.UNMEASURED


class NoVerdict(CheckEnded):
    """There is no verdict, because no answer came or it came too late. The run fails."""

    outcome = Outcome.ERROR


def fail(reason: str, *, fact: str = "") -> NoReturn:
    """End the check as failed."""
    raise Fail(reason, fact=fact)


def expect(condition: object, reason: str, *, fact: str = "") -> None:
    """Fail with `reason` unless the condition is true; ``-O`` would remove an `assert`."""
    if not condition:
        raise Fail(reason, fact=fact)


def expect_effect(condition: object, reason: str, *, fact: str = "") -> None:
    """End as ignored unless the condition is true: the request was accepted without effect."""
    if not condition:
        raise Ignored(reason, fact=fact)


def expect_strict(condition: object, reason: str, *, fact: str = "") -> None:
    """End as lenient unless the condition is true: the server did more than OpenAI allows."""
    if not condition:
        raise Lenient(reason, fact=fact)
