"""Writes a report in the format that the file's name asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.values.secrets import scrub
from pytest_llmengine.parity.errors import ParityError
from pytest_llmengine.parity.reports.as_json import to_json
from pytest_llmengine.parity.reports.html import to_html
from pytest_llmengine.parity.reports.markdown import to_markdown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_llmengine.parity.report import Report

_FORMATS: dict[str, Callable[[Report], str]] = {
    ".json": to_json,
    ".md": to_markdown,
    ".html": to_html,
}


def check_path(path: Path) -> None:
    """Raise ParityError unless a report can be written there: ask before the run, not after."""
    if path.suffix not in _FORMATS:
        raise ParityError(f"report {path}: the name must end in {', '.join(_FORMATS)}")
    if not path.parent.is_dir():
        raise ParityError(f"report {path}: there is no directory {path.parent}; make it first")


def write_report(report: Report, path: Path) -> None:
    """Write the report as JSON, Markdown or HTML, without any key in it."""
    check_path(path)
    path.write_text(scrub(_FORMATS[path.suffix](report)), encoding="utf-8")
