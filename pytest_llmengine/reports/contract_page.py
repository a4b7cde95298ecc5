"""The report of one run as a page, printed to a terminal or written to a file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from markupsafe import Markup
from rich.padding import Padding
from rich.text import Text

from llmengine.types.secrets import scrub
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.reports import page as pages
from pytest_llmengine.reports.html_report import html_report
from pytest_llmengine.reports.model import Section
from pytest_llmengine.reports.page import STYLES, Cell, Page, Table, clipped, escape, one_line
from pytest_llmengine.reports.schema_matrix import is_only_matrix, schema_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rich.console import Console, RenderableType

    from pytest_llmengine.reports.model import CheckRecord, ContractReport


# What the profile does not say of the server; known deviations and unmeasured rules are left out.
_DIFFERENCES = frozenset({Section.FAILED, Section.REFUSED, Section.LENIENT, Section.NOT_RUN})


def print_report(
    report: ContractReport, console: Console, *, only_differences: bool = False
) -> None:
    """Print header, matrix, every verdict that is not a pass, and the summary.

    With ``only_differences``, the matrix is left out, and so are verdicts that the profile expects
    and rules that were not measured. The table of the schema matrix is long, so it is printed only
    if it is what the run was for.
    """
    page = contract_page(report, zero="-", schemas=is_only_matrix(report))
    if only_differences:
        lists = [block for block in page.blocks if isinstance(block, VerdictList)]
        page = replace(page, blocks=tuple(b for b in lists if b.section in _DIFFERENCES))
    pages.print_page(page, console)


def contract_page(report: ContractReport, *, zero: str = "", schemas: bool = True) -> Page:
    """The report as a page; ``zero`` is the text for a count of 0.

    ``schemas`` is for the table of the schema matrix, if the report has one.
    """
    table = schema_table([report.header.label], [report]) if schemas else None
    tables = (table,) if table else ()
    sections = [
        VerdictList(section, tuple(records), report.follows)
        for section, records in report.sections.items()
    ]
    return Page(
        title=f"Contract report: {report.header.label}",
        lines=header_lines(report),
        summary=summary_line(report),
        good=report.accepted,
        blocks=(_matrix(report, zero), *tables, *sections) if report.checks else (),
        note=_CUT if any(section.is_cut for section in sections) else "",
        html=partial(
            html_report,
            [report],
            [report.header.label],
            title=f"Contract report: {report.header.label}",
            summary=summary_line(report),
            tables=tables,
        ),
    )


def header_lines(report: ContractReport) -> tuple[str, ...]:
    """What was tested, how and when.

    Keys are removed here, before a form escapes characters of a key and so hides it from `scrub`.
    """
    header = report.header
    name = f"{header.name}: " if header.name and header.name not in header.describe else ""
    return (
        scrub(name + header.describe),
        f"tier {header.tier}, {header.date}, pytest-llmengine {header.tool_version}",
    )


def summary_line(report: ContractReport) -> str:
    """The whole run in one sentence."""
    total = len(report.checks)
    if not total:
        return "no check was run"
    counts = ", ".join(f"{n} {outcome}" for outcome, n in report.outcomes.items() if n)
    wrong = sum(not record.accepted for record in report.checks)
    alone = f" ({report.findings} without those that follow)" if report.findings < wrong else ""
    verdict = f"{wrong} not accepted{alone}" if wrong else "all accepted"
    return f"{total} {'check' if total == 1 else 'checks'}: {counts}; {verdict}"


def _matrix(report: ContractReport, zero: str) -> Table:
    """The counts per group: of passes and of outcomes that occur; all do not fit 80 columns."""
    outcomes = [o for o, n in report.outcomes.items() if n or o is Outcome.PASS]

    def row(name: Cell, counts: Mapping[Outcome, int]) -> tuple[Cell, ...]:
        cells = (Cell(str(counts[o]), o) if counts[o] else Cell(zero, "soft") for o in outcomes)
        return name, *cells

    rows = [row(Cell(group), counts) for group, counts in report.groups.items()]
    rows.append(row(Cell("all", "total"), report.outcomes))
    heads = ("group", *map(str, outcomes))
    return Table(heads, tuple(rows), right=heads[1:], unwrapped=heads)


# Characters of a reason: five lines of 80 columns if the user has to act on it, else two.
_LONGEST_TO_ACT_ON = 330
_LONGEST = 120
_CUT = "Reasons that end in ... are whole in the JSON and Markdown reports."


_LARGE = 3  # so many verdicts with one reason are a group


def folded(records: Iterable[CheckRecord]) -> str:
    """The ids by level and group, such as ``required: chat.stream.{order,usage} models.list``."""
    levels: dict[str, dict[str, list[str]]] = {}
    for record in records:
        group, _, name = record.id.rpartition(".")
        levels.setdefault(record.level, {}).setdefault(group, []).append(name)
    return "; ".join(
        f"{level}: {' '.join(map(_braced, groups, groups.values()))}"
        for level, groups in levels.items()
    )


def _braced(group: str, names: list[str]) -> str:
    inner = names[0] if len(names) == 1 else f"{{{','.join(names)}}}"
    return f"{group}.{inner}" if group else inner


def _below(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 13), expand=False)


@dataclass(frozen=True, slots=True)
class VerdictList:
    """The verdicts of one section, each with its reason and, in HTML, with its exchanges.

    ``follows`` maps the id of a verdict to the id of an earlier one with the same cause.
    """

    section: Section
    records: tuple[CheckRecord, ...]
    follows: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The heading of the section."""
        return f"{self.section} ({len(self.records)})"

    @property
    def is_cut(self) -> bool:
        """Whether the terminal form cuts a reason."""
        return any(self._reason(record).endswith(" ...") for record in self.records)

    @property
    def groups(self) -> list[list[CheckRecord]]:
        """The verdicts, with those together that have one outcome and one cause or reason."""
        found: dict[tuple[str, ...], list[CheckRecord]] = {}
        for record in self.records:
            found.setdefault((record.outcome, record.fact or record.reason), []).append(record)
        large = {key: records for key, records in found.items() if len(records) >= _LARGE}
        listed: dict[tuple[str, ...], list[CheckRecord]] = {}
        for record in self.records:
            key = (record.outcome, record.fact or record.reason)
            listed |= {key: large[key]} if key in large else {(record.id,): [record]}
        return list(listed.values())

    def to_terminal(self) -> Iterator[RenderableType]:
        """One line per verdict or group of verdicts with one reason, and details below.

        A reason that repeats is printed once.
        """
        yield Text(self.title, style="bold")
        previous = ""  # many checks that were not run or measured share one reason
        for record, *others in self.groups:
            outcome = (str(record.outcome).ljust(10), STYLES[record.outcome])
            reason = self._reason(record)
            if others:
                count = f" {len(others) + 1} rules: {reason}"
                yield Text.assemble("  ", outcome, count)
                yield _below(Text(folded([record, *others]), style=STYLES["soft"]))
                continue
            level = (f"  {record.level}", STYLES["soft"])
            yield Text.assemble("  ", outcome, " ", record.id, level)
            if self.section is Section.FAILED or reason != previous:
                yield _below(Text(reason))
            previous = reason

    def _reason(self, record: CheckRecord) -> str:
        if record.id in self.follows:
            return f"follows from {self.follows[record.id]}"
        longest = _LONGEST_TO_ACT_ON if self.section is Section.FAILED else _LONGEST
        return clipped(one_line(record.reason), longest)

    def to_markdown(self) -> Iterator[str]:
        """A list with one item per verdict, or per group of verdicts with one reason."""
        yield f"## {self.title}"
        yield "\n".join(map(self._item, self.groups))

    def _item(self, group: list[CheckRecord]) -> str:
        record, *others = group
        if others:
            rules = f"{len(group)} rules (`{folded(group)}`)"
        else:
            rules = f"`{record.id}` ({record.level})"
        cause = self.follows.get(record.id)
        return (
            f"- **{record.outcome}** {rules}"
            + (f", follows from `{cause}`" if cause else "")
            + (f": {escape(record.reason)}" if record.reason else "")
        )

    def to_html(self) -> Markup:
        """Nothing; the HTML form of the page has a template of its own."""
        return Markup()
