"""``llmengine report``: reports side by side, the changes between two, and reports of others."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pytest_llmengine.cli.options import (
    LevelName,
    RulesOption,
    SummaryOption,
    listing,
    print_rows,
)


class _ShowByDefault(TyperGroup):
    """A group in which ``report FILE...`` is short for ``report show FILE...``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the command if the first argument is not one of its words."""
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ShowByDefault,
    no_args_is_help=True,
    help="Show reports side by side, list the shipped ones, and check those of others.\n\n"
    "`llmengine report FILE...` is short for `llmengine report show FILE...`. Write ./check for a "
    "file whose name is that of a command.",
)


@app.command()
def show(  # noqa: PLR0913 - one option each
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE.json...",
            help="Reports that `llmengine verify` wrote; NAME=FILE names the server; known:NAME "
            "and known:NAME@VERSION are shipped.",
        ),
    ],
    *,
    changes: Annotated[
        bool, typer.Option("--changes", help="Show what changed from the first file to the second.")
    ] = False,
    fail_on: Annotated[
        LevelName | None,
        typer.Option(
            help="With --changes: fail if a rule of this level, or of one before it, got worse.",
            show_default="quirk, so any rule",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also print the rules that all servers pass.")
    ] = False,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="Also write the page, .md or .html; or write one report as .xml (JUnit), .sarif, "
            ".ctrf.json or .badge.json; repeatable.",
        ),
    ] = None,
    summary: SummaryOption = None,
) -> None:
    """Show several reports side by side, one row per rule; the default command.

    Exit status: 1 with --changes if a rule of the chosen levels got worse, 2 if a file is not a
    report.
    """
    from pytest_llmengine.contract.registry import Level
    from pytest_llmengine.reports.comparison_page import changes_page, matrix_page
    from pytest_llmengine.reports.exports import job_summary
    from pytest_llmengine.reports.files import EXPORTS, append_summary, write_report
    from pytest_llmengine.reports.known import report_named
    from pytest_llmengine.reports.page import (
        PAGE_FORMATS,
        check_path,
        format_of,
        print_page,
        write_page,
    )

    if changes and len(files) != len(("old", "new")):
        raise typer.BadParameter("--changes takes two reports, the older one first")
    if fail_on is not None and not changes:
        raise typer.BadParameter("--fail-on goes with --changes")
    for path in output or ():
        check_path(path, (*PAGE_FORMATS, *EXPORTS))
        if format_of(path, EXPORTS) and len(files) > 1:
            raise typer.BadParameter(f"{path} is written from one report; {len(files)} are given")
    reports = [report_named(text) for text in files]
    page = (
        changes_page(*reports, fail_on=Level(fail_on or "quirk"))
        if changes
        else matrix_page(reports, every=True)
    )
    printed = page if changes or every else matrix_page(reports, every=False)
    print_page(printed, listing())
    for path in output or ():
        if format_of(path, EXPORTS):
            write_report(reports[0], path)
        else:
            write_page(page, path)
    if summary is not None:
        append_summary(job_summary(reports[0]) if len(reports) == 1 else page, summary)
    raise typer.Exit(1 if page.good is False else 0)


@app.command()
def known(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the shipped reports; `llmengine report known:NAME@VERSION` shows one."""
    import json

    from pytest_llmengine.reports.known import known_reports

    rows = [
        {
            "name": one.name,
            "version": one.version,
            "recorded": one.report.header.date[:10],
            "model": one.report.header.model,
            "rules": len(one.report.checks),
        }
        for one in known_reports()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        print_rows(list(rows[0]), [list(map(str, row.values())) for row in rows], right=["rules"])


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE.json", help="The report of someone else.")],
    *,
    rules: RulesOption = None,
) -> None:
    """Check a report of someone else, and judge its exchanges again.

    Checked are: its schema, its ids, whether its verdicts fit each other and its counts, keys and
    private addresses, an exchange for every verdict, and whether each rule, run on the exchanges,
    ends the same.

    Exit status: 0 no problem was found, 1 there are problems, 2 the file is not a report.
    """
    from pytest_llmengine.contract.registry import read_rules
    from pytest_llmengine.reports.json import read_object
    from pytest_llmengine.reports.page import print_page
    from pytest_llmengine.reports.review import review, review_page

    for path in rules or ():
        read_rules(path)
    page = review_page(str(file), review(read_object(file)))
    print_page(page, listing())
    raise typer.Exit(0 if page.good else 1)
