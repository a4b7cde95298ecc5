"""The report for a browser: one file, nothing fetched, each failure with its exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.reports.words import (
    columns,
    header_lines,
    printable,
    summary_line,
    visible,
)

if TYPE_CHECKING:
    from pytest_llmengine.reports.report import Report

_HERE = "pytest_llmengine.reports"


def to_html(report: Report) -> str:
    """The report as a self-contained page, what servers said escaped."""
    known = catalogue()
    return render(
        "report.html.jinja",
        title=f"Contract report: {report.header.engine}",
        lines=header_lines(report),
        report=report,
        summary=summary_line(report),
        columns=columns(report),
        rules={c.id: known[c.id].title if c.id in known else "" for c in report.checks},
    )


def render(template: str, *, package: str = _HERE, **values: Any) -> str:
    """A template filled: one of a package's own, or of those beside this file."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - only HTML needs it

    made = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(_HERE)]),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(printable=printable, visible=visible)
    return made.get_template(template).render(values)
