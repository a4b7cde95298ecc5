"""The report for a terminal: readable at 80 columns, and without colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pytest_llmengine.parity.causes import Standing
from pytest_llmengine.parity.pair import Status
from pytest_llmengine.parity.reports.words import (
    CRITERION_HEADS,
    KIND_HEADS,
    cause_rows,
    criterion_rows,
    kind_rows,
    noise_rows,
    parting,
    side_lines,
    summary_line,
    unlike,
)
from pytest_llmengine.parity.verdict import Verdict
from pytest_llmengine.reports.render import clipped, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType

    from pytest_llmengine.parity.pair import Pair
    from pytest_llmengine.parity.report import Report

_STYLES = {
    Verdict.EQUAL: "bold green",
    Verdict.DIVERGES: "bold red",
    Verdict.NONE: "bold magenta",
    Standing.EQUAL: "green",
    Standing.PINNED: "green",
    Standing.UNKNOWN: "yellow",
    Standing.ALLOWED: "yellow",
    Standing.MISMATCH: "bold red",
}
_MOST = 10  # diverging prompts that are shown
_LONGEST = 240


def print_report(report: Report, console: Console) -> None:
    """Print sides, causes, numbers, the first prompts that are unlike, and the verdict."""
    console.print(render(report), soft_wrap=False)


def render(report: Report) -> Group:
    """The report as something that rich can print."""
    parts: list[RenderableType] = [Text(printable(line)) for line in side_lines(report)]
    parts += [Text(), *_causes(report)]
    if report.pairs:
        rows = [*kind_rows(report), *((f"noise: {row[0]}", *row[1:]) for row in noise_rows(report))]
        parts += [Text(), _table(KIND_HEADS, rows)]
        parts += [Text(), _table(CRITERION_HEADS, criterion_rows(report))]
    parts += _unlike(report)
    return Group(*parts, Text(), Text(summary_line(report), style=_STYLES[report.verdict]))


def _causes(report: Report) -> list[RenderableType]:
    """A line a cause; what was seen is under it where that is not plain agreement."""
    lines: list[RenderableType] = []
    for name, standing, ours, theirs, note in cause_rows(report):
        style = _STYLES[Standing(standing)]
        values = f"{ours} / {theirs}" if ours != theirs else ours
        lines.append(Text.assemble(name.ljust(19), (standing.ljust(10), style), printable(values)))
        if note and Standing(standing) not in (Standing.EQUAL, Standing.PINNED):
            lines.append(Padding(Text(printable(note), style="dim"), (0, 0, 0, 29)))
    return lines


def _table(heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left", no_wrap=not place)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def _unlike(report: Report) -> list[RenderableType]:
    found = unlike(report)
    lines: list[RenderableType] = []
    for pair in found[:_MOST]:
        lines += [Text(), *_pair(report, pair)]
    if len(found) > _MOST:
        more = f"... and {len(found) - _MOST} more; --report FILE has them all"
        lines += [Text(), Text(more, style="dim")]
    return lines


def _pair(report: Report, pair: Pair) -> list[RenderableType]:
    where = f"  {printable(parting(pair.divergence))}" if pair.divergence is not None else ""
    lines: list[RenderableType] = [Text.assemble((pair.id, "bold"), f"  {pair.status}{where}")]
    for mark, answer in zip("-+", report.answers(pair.id), strict=True):
        said = answer.error if pair.status is not Status.DIVERGED else answer.text
        lines.append(Text(f"  {mark} {clipped(printable(said or 'answered'), _LONGEST)}"))
    return lines
