"""The files that a report of the contract is written to; the end of a name chooses the format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.types.errors import ConfigError
from llmengine.types.secrets import scrub
from pytest_llmengine.reports import exports
from pytest_llmengine.reports.contract_page import contract_page
from pytest_llmengine.reports.json import to_json
from pytest_llmengine.reports.page import check_path, format_of, to_html, to_markdown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_llmengine.reports.model import ContractReport
    from pytest_llmengine.reports.page import Page


# The first one with which a file name ends is its format. Exports cannot be read again.
EXPORTS: dict[str, Callable[[ContractReport], str]] = {
    ".ctrf.json": exports.to_ctrf,
    ".badge.json": exports.to_badge,
    ".xml": exports.to_junit,
    ".sarif": exports.to_sarif,
}
FORMATS: dict[str, Callable[[ContractReport], str]] = {
    **EXPORTS,
    ".json": to_json,
    ".md": lambda report: to_markdown(contract_page(report)),
    ".html": lambda report: to_html(contract_page(report)),
}


def check_report_path(path: Path) -> None:
    """Raise ConfigError unless a report can be written to this path; called before the run."""
    check_path(path, FORMATS)


def write_report(report: ContractReport, path: Path) -> None:
    """Write the report in the format that the end of the name says, without known keys."""
    check_report_path(path)
    path.write_text(scrub(FORMATS[format_of(path, FORMATS)](report)), encoding="utf-8")


def with_engine(path: Path, engine: str) -> Path:
    """The path with the engine's name before the end that chooses the format."""
    end = format_of(path, FORMATS) or path.suffix
    return path.with_name(f"{path.name.removesuffix(end)}-{engine}{end}")


def append_summary(page: Page, path: Path) -> None:
    """Append the page as Markdown to a file, such as the one that GITHUB_STEP_SUMMARY names.

    Raises ConfigError if there is no directory for it.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(scrub(to_markdown(page)) + "\n")
    except OSError as error:
        raise ConfigError(f"summary {path}: {error.strerror}") from error
