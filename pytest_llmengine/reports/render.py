"""The report of one run for a terminal, as Markdown and as HTML, and writing it to a file.

The terminal form fits 80 columns and is readable without colour. The HTML form is one file without
external resources, with the exchanges of each failure.
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
    """The outcomes that get a column: pass, and those that occur; all would not fit 80 columns."""
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

    Keys are removed here, before a form escapes characters of a key and so hides it from `scrub`.
    """
    header = report.header
    return [
        scrub(header.describe),
        f"tier {header.tier}, {header.date}, pytest-llmengine {header.tool_version}",
    ]


def clipped(text: str, limit: int) -> str:
    """The text, or its beginning with " ..." if it is longer than `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 4].rstrip()} ..."


def printable(text: str) -> str:
    """The text on one line, with control characters written as escapes."""
    joined = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)


def visible(text: str) -> str:
    """The text with its line breaks and tabs; other control characters are written as escapes."""
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

# Characters of a reason: five lines of 80 columns if the user has to act on it, else two.
_TO_ACT_ON = 330
_TO_KNOW = 120
_CLIPPED = "Reasons that end in ... are whole in the JSON and Markdown reports."


def print_report(report: ContractReport, console: Console) -> None:
    """Print header, matrix, every verdict that is not a pass, and the summary line."""
    console.print(render(report), soft_wrap=False)


def render(report: ContractReport) -> Group:
    """The report as a rich renderable."""
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
    told = ""  # many checks that were not run or measured share one reason
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
    """The report as GitHub-flavoured Markdown; texts from servers are escaped."""
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
    """One row of a Markdown table."""
    return f"| {' | '.join(str(c) for c in cells)} |"


def _item(record: CheckRecord) -> str:
    reason = f": {escape(record.reason)}" if record.reason else ""
    return f"- **{record.outcome}** `{record.id}` ({record.level}){reason}"


def escape(text: str) -> str:
    """The text on one line, escaped so that Markdown shows it unchanged."""
    return _SPECIAL.sub(r"\\\1", printable(text))


_HERE = "pytest_llmengine.reports"


def to_html(report: ContractReport) -> str:
    """The report as a self-contained page; texts from servers are escaped."""
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
    """A rendered template, from the templates of `package` or of this package."""
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
    """Raise ConfigError unless a report can be written to this path; called before the run."""
    if path.suffix not in forms:
        raise ConfigError(f"report {path}: the name must end in {', '.join(forms)}")
    if not path.parent.is_dir():
        raise ConfigError(f"report {path}: there is no directory {path.parent}; make it first")


def write_report(report: ContractReport, path: Path) -> None:
    """Write the report as JSON (``.json``), Markdown (``.md``) or a web page (``.html``)."""
    check_path(path)
    path.write_text(scrub(_FORMATS[path.suffix](report)), encoding="utf-8")
