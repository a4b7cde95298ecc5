"""The matrix for a terminal: readable at 80 columns, and without colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.reports.report import Section
from pytest_llmengine.reports.words import (
    clipped,
    columns,
    header_lines,
    printable,
    summary_line,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from pytest_llmengine.reports.record import CheckRecord
    from pytest_llmengine.reports.report import Report

STYLES = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.REFUSED: "cyan",
    Outcome.IGNORED: "bold magenta",
    Outcome.DEVIATES: "yellow",
    Outcome.UNMEASURED: "blue",
    Outcome.ERROR: "bold white on red",
    Outcome.NOT_RUN: "red",
    Outcome.UNRECORDED: "blue",
}

# Characters of a reason: five lines of 80 columns where something is to be done, else two.
_TO_ACT_ON = 330
_TO_KNOW = 120
_CLIPPED = "Reasons that end in ... are whole in the JSON and Markdown reports."


def print_report(report: Report, console: Console) -> None:
    """Print header, matrix, every verdict that is not a pass, and the summary line."""
    console.print(render(report), soft_wrap=False)


def render(report: Report) -> Group:
    """The report as something that rich can print."""
    parts: list[RenderableType] = [Text(printable(line)) for line in header_lines(report)]
    if report.checks:
        parts += [Text(), _matrix(report)]
    for section, records in report.sections.items():
        parts += [Text(), *_section(section, records)]
    if any(_reason(s, r).endswith(" ...") for s, found in report.sections.items() for r in found):
        parts += [Text(), Text(_CLIPPED, style="dim")]
    style = "bold green" if report.accepted else "bold red"
    return Group(*parts, Text(), Text(summary_line(report), style=style))


def _matrix(report: Report) -> Table:
    shown = columns(report)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("group", no_wrap=True)
    for outcome in shown:
        table.add_column(str(outcome), justify="right", no_wrap=True)
    for group, counts in report.groups.items():
        table.add_row(Text(group), *(_count(outcome, counts[outcome]) for outcome in shown))
    totals = report.outcomes
    table.add_row(Text("all", style="bold"), *(_count(o, totals[o]) for o in shown))
    return table


def _count(outcome: Outcome, n: int) -> Text:
    return Text(str(n), style=STYLES[outcome]) if n else Text("-", style="dim")


def _section(section: Section, records: list[CheckRecord]) -> list[RenderableType]:
    lines: list[RenderableType] = [Text(f"{section} ({len(records)})", style="bold")]
    told = ""  # what was not run or measured often has one reason for many checks
    for record in records:
        lines.append(
            Text.assemble(
                "  ",
                (str(record.outcome).ljust(10), STYLES[record.outcome]),
                " ",
                record.id,
                (f"  {record.level}", "dim"),
            )
        )
        reason = _reason(section, record)
        if section is Section.FAILED or reason != told:
            lines.append(Padding(Text(reason), (0, 0, 0, 13)))
        told = reason
    return lines


def _reason(section: Section, record: CheckRecord) -> str:
    limit = _TO_ACT_ON if section is Section.FAILED else _TO_KNOW
    return clipped(printable(record.reason), limit)
