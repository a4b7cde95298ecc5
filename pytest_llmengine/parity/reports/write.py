"""Writes a report in the format that the file's name asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.types.secrets import scrub
from pytest_llmengine.parity.reports.as_json import to_json
from pytest_llmengine.parity.reports.html import to_html
from pytest_llmengine.parity.reports.markdown import to_markdown
from pytest_llmengine.reports import check_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_llmengine.parity.report import Report

FORMS: dict[str, Callable[[Report], str]] = {
    ".json": to_json,
    ".md": to_markdown,
    ".html": to_html,
}


def write_report(report: Report, path: Path) -> None:
    """Write the report as JSON, Markdown or HTML, without any key in it.

    Raises ConfigError for a name or a folder that cannot be.
    """
    check_path(path, FORMS)
    path.write_text(scrub(FORMS[path.suffix](report)), encoding="utf-8")
