"""The report for an issue, a pull request or a wiki."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.parity.reports.words import (
    CAUSE_HEADS,
    CRITERION_HEADS,
    KIND_HEADS,
    cause_rows,
    criterion_rows,
    kind_rows,
    noise_rows,
    parting,
    side_lines,
    summary_line,
    title_of,
    unlike,
)
from pytest_llmengine.reports.render import escape, row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_llmengine.parity.pair import Pair
    from pytest_llmengine.parity.report import Report


def to_markdown(report: Report) -> str:
    """The report as GitHub-flavoured Markdown, what models said escaped."""
    return "\n\n".join(_blocks(report)) + "\n"


def _blocks(report: Report) -> Iterator[str]:
    yield f"# {escape(title_of(report))}"
    yield f"**{escape(summary_line(report))}**"
    yield "  \n".join(escape(line) for line in side_lines(report))
    yield "## What may change answers"
    yield _table(CAUSE_HEADS, cause_rows(report))
    if not report.pairs:
        return
    yield "## Held against the noise floor"
    yield _table(CRITERION_HEADS, criterion_rows(report))
    yield "## By kind"
    yield _table(KIND_HEADS, kind_rows(report))
    yield "## The baseline against itself"
    yield _table(("variation", *KIND_HEADS[1:]), noise_rows(report))
    if found := unlike(report):
        yield f"## Not the same ({len(found)})"
        yield "\n".join(_item(report, pair) for pair in found)


def _item(report: Report, pair: Pair) -> str:
    where = f", {escape(parting(pair.divergence))}" if pair.divergence is not None else ""
    lines = [f"- `{pair.id}` {pair.status}{where}"]
    for role, answer in zip(("baseline", "candidate"), report.answers(pair.id), strict=True):
        lines.append(f"  - {role}: {escape(answer.error or answer.text)}")
    return "\n".join(lines)


def _table(heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    listed = list(heads)
    lines = [row(listed), row("---" for _ in listed)]
    return "\n".join([*lines, *(row(escape(cell) for cell in cells) for cells in rows)])
