"""Words that the forms of a report share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.types.secrets import scrub
from pytest_llmengine.contract.outcomes import Outcome

if TYPE_CHECKING:
    from pytest_llmengine.reports.report import Report


def columns(report: Report) -> list[Outcome]:
    """The outcomes worth a column: pass, and what occurs; seven would not fit 80 columns."""
    return [o for o, n in report.outcomes.items() if n or o is Outcome.PASS]


def summary_line(report: Report) -> str:
    """The whole run in one sentence."""
    total = len(report.checks)
    if not total:
        return "no check was run"
    counts = ", ".join(f"{n} {outcome}" for outcome, n in report.outcomes.items() if n)
    wrong = sum(not c.accepted for c in report.checks)
    verdict = f"{wrong} not accepted" if wrong else "all accepted"
    return f"{total} {'check' if total == 1 else 'checks'}: {counts}; {verdict}"


def header_lines(report: Report) -> list[str]:
    """What was tested, how and when.

    It is scrubbed here, before any form escapes what a key is made of.
    """
    header = report.header
    return [
        scrub(header.describe),
        f"tier {header.tier}, {header.date}, pytest-llmengine {header.tool_version}",
    ]


def clipped(text: str, limit: int) -> str:
    """The text, or its beginning with "..." where it is longer than `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 4].rstrip()} ..."


def printable(text: str) -> str:
    """The text on one line, without the control characters that a server may have sent."""
    joined = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)


def visible(text: str) -> str:
    """The text with its lines and indentation, and other control characters spelt out."""
    kept = {"\n", "\t"}
    spelt = (
        c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text
    )
    return "".join(spelt)
