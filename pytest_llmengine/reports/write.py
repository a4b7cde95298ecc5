"""Writes a report in the format that the file's name asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.types.errors import ConfigError
from llmengine.types.secrets import scrub
from pytest_llmengine.reports.as_json import to_json
from pytest_llmengine.reports.html import to_html
from pytest_llmengine.reports.markdown import to_markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pytest_llmengine.reports.report import Report

_FORMATS: dict[str, Callable[[Report], str]] = {
    ".json": to_json,
    ".md": to_markdown,
    ".html": to_html,
}


def check_path(path: Path, forms: Iterable[str] = tuple(_FORMATS)) -> None:
    """Raise ConfigError unless a report can be written there: ask before the run, not after."""
    if path.suffix not in forms:
        raise ConfigError(f"report {path}: the name must end in {', '.join(forms)}")
    if not path.parent.is_dir():
        raise ConfigError(f"report {path}: there is no directory {path.parent}; make it first")


def write_report(report: Report, path: Path) -> None:
    """Write the report as JSON (``.json``), Markdown (``.md``) or a web page (``.html``)."""
    check_path(path)
    path.write_text(scrub(_FORMATS[path.suffix](report)), encoding="utf-8")
