"""The matrix and the list for an issue, a pull request or a wiki."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_llmengine.reports.words import columns, header_lines, printable, summary_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_llmengine.reports.record import CheckRecord
    from pytest_llmengine.reports.report import Report

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~@&])")


def to_markdown(report: Report) -> str:
    """The report as GitHub-flavoured Markdown, what servers said escaped."""
    blocks = [
        f"# Contract report: {escape(report.header.engine)}",
        "  \n".join(escape(line) for line in header_lines(report)),
        f"**{summary_line(report)}**",
        _matrix(report),
    ]
    for section, records in report.sections.items():
        blocks.append(f"## {section} ({len(records)})")
        blocks.append("\n".join(_item(record) for record in records))
    return "\n\n".join(blocks) + "\n"


def _matrix(report: Report) -> str:
    shown = columns(report)
    rows = [
        row(["group", *shown]),
        row(["---", *("---:" for _ in shown)]),
        *(row([g, *(n[o] or "" for o in shown)]) for g, n in report.groups.items()),
        row(["**all**", *(report.outcomes[o] for o in shown)]),
    ]
    return "\n".join(rows)


def row(cells: Iterable[object]) -> str:
    """One row of a table."""
    return f"| {' | '.join(str(c) for c in cells)} |"


def _item(record: CheckRecord) -> str:
    reason = f": {escape(record.reason)}" if record.reason else ""
    return f"- **{record.outcome}** `{record.id}` ({record.level}){reason}"


def escape(text: str) -> str:
    """Text on one line that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", printable(text))
