"""``llmengine report``: show several reports as one matrix, or the changes between two."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from pytest_llmengine.cli.options import listing


def report(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE.json...", help="Reports that `llmengine verify` wrote."),
    ],
    *,
    changes: Annotated[
        bool, typer.Option("--changes", help="Show what changed from the first file to the second.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Also print the rules that all servers pass.")
    ] = False,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", help="Also write the page to this file, .md or .html; repeatable."
        ),
    ] = None,
) -> None:
    """Show several reports side by side, one row per rule.

    Exit status: 1 with --changes if a rule is no longer accepted, 2 if a file is not a report.
    """
    from pytest_llmengine.reports.comparison_page import changes_page, matrix_page
    from pytest_llmengine.reports.json import read_report
    from pytest_llmengine.reports.page import PAGE_FORMATS, check_path, print_page, write_page

    if changes and len(files) != len(("old", "new")):
        raise typer.BadParameter("--changes takes two reports, the older one first")
    for path in output or ():
        check_path(path, PAGE_FORMATS)
    reports = [read_report(path) for path in files]
    page = changes_page(*reports) if changes else matrix_page(reports, every=True)
    printed = page if changes or every else matrix_page(reports, every=False)
    print_page(printed, listing())
    for path in output or ():
        write_page(page, path)
    raise typer.Exit(1 if page.good is False else 0)
