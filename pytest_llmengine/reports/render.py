"""Words that the forms of a report share.

The matrix for a terminal: readable at 80 columns, and without colour.

The matrix and the list for an issue, a pull request or a wiki.

The report for a browser: one file, nothing fetched, each failure with its exchange.

Writes a report in the format that the file's name asks for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from llmengine.types.errors import ConfigError
from llmengine.types.secrets import scrub
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.reports.json import to_json
from pytest_llmengine.reports.model import Section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from rich.console import Console, RenderableType

    from pytest_llmengine.reports.model import CheckRecord, ContractReport


def columns(report: ContractReport) -> list[Outcome]:
    """The outcomes worth a column: pass, and what occurs; seven would not fit 80 columns."""
    return [o for o, n in report.outcomes.items() if n or o is Outcome.PASS]


def summary_line(report: ContractReport) -> str:
    """The whole run in one sentence."""
    total = len(report.checks)
    if not total:
        return "no check was run"
    counts = ", ".join(f"{n} {outcome}" for outcome, n in report.outcomes.items() if n)
    wrong = sum(not c.accepted for c in report.checks)
    verdict = f"{wrong} not accepted" if wrong else "all accepted"
    return f"{total} {'check' if total == 1 else 'checks'}: {counts}; {verdict}"


def header_lines(report: ContractReport) -> list[str]:
    """What was tested, how and when.

    It is scrubbed here, before any form escapes what a key is made of.
    """
    header = report.header
    return [
        scrub(header.describe),
        f"tier {header.tier}, {header.date}, pytest-llmengine {header.tool_version}",
    ]


def clipped(text: str, limit: int) -> str:
    """The text, or its beginning with "..." where it is longer than `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 4].rstrip()} ..."


def printable(text: str) -> str:
    """The text on one line, without the control characters that a server may have sent."""
    joined = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)


def visible(text: str) -> str:
    """The text with its lines and indentation, and other control characters spelt out."""
    kept = {"\n", "\t"}
    spelt = (
        c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text
    )
    return "".join(spelt)


STYLES = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.REFUSED: "cyan",
    Outcome.IGNORED: "bold magenta",
    Outcome.DEVIATES: "yellow",
    Outcome.UNMEASURED: "blue",
    Outcome.ERROR: "bold white on red",
    Outcome.NOT_RUN: "red",
    Outcome.UNRECORDED: "blue",
}

# Characters of a reason: five lines of 80 columns where something is to be done, else two.
_TO_ACT_ON = 330
_TO_KNOW = 120
_CLIPPED = "Reasons that end in ... are whole in the JSON and Markdown reports."


def print_report(report: ContractReport, console: Console) -> None:
    """Print header, matrix, every verdict that is not a pass, and the summary line."""
    console.print(render(report), soft_wrap=False)


def render(report: ContractReport) -> Group:
    """The report as something that rich can print."""
    parts: list[RenderableType] = [Text(printable(line)) for line in header_lines(report)]
    if report.checks:
        parts += [Text(), _matrix(report)]
    for section, records in report.sections.items():
        parts += [Text(), *_section(section, records)]
    if any(_reason(s, r).endswith(" ...") for s, found in report.sections.items() for r in found):
        parts += [Text(), Text(_CLIPPED, style="dim")]
    style = "bold green" if report.accepted else "bold red"
    return Group(*parts, Text(), Text(summary_line(report), style=style))


def _matrix(report: ContractReport) -> Table:
    shown = columns(report)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("group", no_wrap=True)
    for outcome in shown:
        table.add_column(str(outcome), justify="right", no_wrap=True)
    for group, counts in report.groups.items():
        table.add_row(Text(group), *(_count(outcome, counts[outcome]) for outcome in shown))
    totals = report.outcomes
    table.add_row(Text("all", style="bold"), *(_count(o, totals[o]) for o in shown))
    return table


def _count(outcome: Outcome, n: int) -> Text:
    return Text(str(n), style=STYLES[outcome]) if n else Text("-", style="dim")


def _section(section: Section, records: list[CheckRecord]) -> list[RenderableType]:
    lines: list[RenderableType] = [Text(f"{section} ({len(records)})", style="bold")]
    told = ""  # what was not run or measured often has one reason for many checks
    for record in records:
        lines.append(
            Text.assemble(
                "  ",
                (str(record.outcome).ljust(10), STYLES[record.outcome]),
                " ",
                record.id,
                (f"  {record.level}", "dim"),
            )
        )
        reason = _reason(section, record)
        if section is Section.FAILED or reason != told:
            lines.append(Padding(Text(reason), (0, 0, 0, 13)))
        told = reason
    return lines


def _reason(section: Section, record: CheckRecord) -> str:
    limit = _TO_ACT_ON if section is Section.FAILED else _TO_KNOW
    return clipped(printable(record.reason), limit)


_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~@&])")


def to_markdown(report: ContractReport) -> str:
    """The report as GitHub-flavoured Markdown, what servers said escaped."""
    blocks = [
        f"# Contract report: {escape(report.header.engine)}",
        "  \n".join(escape(line) for line in header_lines(report)),
        f"**{summary_line(report)}**",
        _markdown_matrix(report),
    ]
    for section, records in report.sections.items():
        blocks.append(f"## {section} ({len(records)})")
        blocks.append("\n".join(_item(record) for record in records))
    return "\n\n".join(blocks) + "\n"


def _markdown_matrix(report: ContractReport) -> str:
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


_HERE = "pytest_llmengine.reports"


def to_html(report: ContractReport) -> str:
    """The report as a self-contained page, what servers said escaped."""
    known = catalogue()
    return render_page(
        "report.html.jinja",
        title=f"Contract report: {report.header.engine}",
        lines=header_lines(report),
        report=report,
        summary=summary_line(report),
        columns=columns(report),
        rules={c.id: known[c.id].title if c.id in known else "" for c in report.checks},
    )


def render_page(template: str, *, package: str = _HERE, **values: Any) -> str:
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


_FORMATS: dict[str, Callable[[ContractReport], str]] = {
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


def write_report(report: ContractReport, path: Path) -> None:
    """Write the report as JSON (``.json``), Markdown (``.md``) or a web page (``.html``)."""
    check_path(path)
    path.write_text(scrub(_FORMATS[path.suffix](report)), encoding="utf-8")
