"""Several reports on one page: as a matrix of rules and servers, or as the changes between two."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from pytest_llmengine.contract.outcomes import Outcome, kind_of
from pytest_llmengine.contract.profile import DEVIANT
from pytest_llmengine.contract.registry import Level
from pytest_llmengine.reports.contract_page import header_lines
from pytest_llmengine.reports.html_report import html_report, rule_ids
from pytest_llmengine.reports.page import Cell, Page, Table, one_line
from pytest_llmengine.reports.schema_matrix import schema_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_llmengine.reports.model import CheckRecord, ContractReport

    MatrixRow = tuple[str, list[CheckRecord | None]]


def matrix_page(reports: Sequence[ContractReport], *, every: bool) -> Page:
    """The reports side by side; without `every`, only the rules that some server does not pass."""
    names = labels(reports)
    rows = list(_matrix_rows(reports))
    failing = [row for row in rows if not _passes(row)]
    if every:
        rules = _rule_table(f"Rules ({len(rows)})", names, rows)
    else:
        title = f"Rules that some server does not pass ({len(failing)} of {len(rows)})"
        rules = _rule_table(title, names, failing)
    table = schema_table(names, reports)
    tables = (table,) if table else ()
    summary = (
        f"{len(rows)} rules, {len(reports)} reports: {len(rows) - len(failing)} pass "
        'wherever they were run ("!" is not accepted, "-" was not run)'
    )
    return Page(
        title="Contract matrix",
        lines=tuple(
            f"{name}: {'; '.join(header_lines(report))}"
            for name, report in zip(names, reports, strict=True)
        ),
        summary=summary,
        good=None,
        blocks=(_server_table(names, reports), *tables, rules),
        html=partial(
            html_report, reports, names, title="Contract matrix", summary=summary, tables=tables
        ),
    )


def labels(reports: Sequence[ContractReport]) -> list[str]:
    """A short unique name per report: the server, with its version or a number if needed."""
    servers = [report.header.label for report in reports]
    names = [
        header.label
        if servers.count(header.label) == 1
        else f"{header.label} {header.version or header.model}"
        for header in (report.header for report in reports)
    ]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]


def _matrix_rows(reports: Sequence[ContractReport]) -> Iterator[MatrixRow]:
    """Each rule with its record in each report."""
    by_id = [{record.id: record for record in report.checks} for report in reports]
    for rule in rule_ids(id_ for records in by_id for id_ in records):
        yield rule, [records.get(rule) for records in by_id]


def _passes(row: MatrixRow) -> bool:
    return all(record.outcome is Outcome.PASS for record in row[1] if record is not None)


def _server_table(names: Sequence[str], reports: Sequence[ContractReport]) -> Table:
    """One row per report with the count of each outcome that occurs."""
    total: Counter[Outcome] = Counter()
    for report in reports:
        total.update(report.outcomes)
    outcomes = [outcome for outcome in Outcome if total[outcome] or outcome is Outcome.PASS]
    rows = tuple(
        (
            Cell(name),
            Cell(str(len(report.checks))),
            *(Cell(str(n), o) if (n := report.outcomes[o]) else Cell("-") for o in outcomes),
            Cell(str(report.summary()["not_accepted"] or "-")),
        )
        for name, report in zip(names, reports, strict=True)
    )
    return Table(("server", "checks", *map(str, outcomes), "not accepted"), rows, "Servers")


def _rule_table(title: str, names: Sequence[str], rows: Sequence[MatrixRow]) -> Table:
    """One row per rule with the verdict of each report."""
    cells = tuple(
        (
            Cell(rule),
            Cell(next(record.level for record in records if record is not None)),
            *map(_verdict_cell, records),
        )
        for rule, records in rows
    )
    return Table(("rule", "level", *names), cells, title)


def _verdict_cell(record: CheckRecord | None) -> Cell:
    """The cell of an outcome, with "!" if it is not accepted; "-" if there is no record."""
    if record is None:
        return Cell("-")
    return Cell(f"{record.outcome}{'' if record.accepted else ' !'}", record.outcome)


class ChangeKind(StrEnum):
    """How a rule's verdict changed; the most important kind comes first."""

    WORSE = "No longer accepted"
    BETTER = "Accepted now"
    BROKEN = "Broken now, as the profile says"
    KEPT = "Kept now"
    OTHER = "Another outcome"
    PROFILE = "Accepted by one profile only"
    NEW = "Not in the old report"
    GONE = "Not in the new report"


@dataclass(frozen=True, slots=True)
class Change:
    """One rule's verdict before and after; None if a report does not have the rule."""

    id: str
    before: CheckRecord | None
    after: CheckRecord | None

    @property
    def level(self) -> str:
        """The level of the rule, in the newer report that has it."""
        record = self.after or self.before
        return record.level if record else ""

    @property
    def kind(self) -> ChangeKind | None:
        """The kind of the change; None if nothing changed."""
        if self.before is None:
            return ChangeKind.NEW
        if self.after is None:
            return ChangeKind.GONE
        return _kind(self.before, self.after)


def _kind(before: CheckRecord, after: CheckRecord) -> ChangeKind | None:
    """The kind of a change of a verdict; None if nothing changed."""
    if before.accepted != after.accepted:
        if _is_same_finding(before, after):
            return ChangeKind.PROFILE
        return ChangeKind.BETTER if after.accepted else ChangeKind.WORSE
    if before.observed in _KEPT and after.observed in DEVIANT:
        return ChangeKind.BROKEN
    if before.observed in DEVIANT and after.observed in _KEPT:
        return ChangeKind.KEPT
    return None if before.outcome is after.outcome else ChangeKind.OTHER


_KEPT = frozenset({Outcome.PASS, Outcome.LENIENT})


def _is_same_finding(before: CheckRecord, after: CheckRecord) -> bool:
    """Whether the server did the same; the reason of a known deviation contains the one seen."""
    if not before.reason or not after.reason or before.observed is not after.observed:
        return False
    first, second = kind_of(before.reason), kind_of(after.reason)
    return first in second or second in first


def changes(old: ContractReport, new: ContractReport) -> dict[ChangeKind, list[Change]]:
    """The changes by kind, in the order of the catalogue; kinds without changes are left out."""
    before, after = ({record.id: record for record in report.checks} for report in (old, new))
    found: dict[ChangeKind, list[Change]] = {kind: [] for kind in ChangeKind}
    for rule in rule_ids([*before, *after]):
        change = Change(rule, before.get(rule), after.get(rule))
        if change.kind is not None:
            found[change.kind].append(change)
    return {kind: listed for kind, listed in found.items() if listed}


def changes_page(old: ContractReport, new: ContractReport, *, fail_on: Level = Level.QUIRK) -> Page:
    """The changes as a page.

    The page is good unless a rule of the level `fail_on`, or of one before it, got worse.
    """
    found = changes(old, new)
    counts = [f"{len(listed)} {kind[0].lower()}{kind[1:]}" for kind, listed in found.items()]
    order = list(Level)
    gate = order[: order.index(fail_on) + 1]
    worse = [change for change in found.get(ChangeKind.WORSE, ()) if change.level in gate]
    spared = found.get(ChangeKind.WORSE) and not worse
    return Page(
        title="Contract changes",
        lines=(
            f"before: {'; '.join(header_lines(old))}",
            f"after: {'; '.join(header_lines(new))}",
            *_other_differences(old, new),
        ),
        summary=(", ".join(counts) or "nothing changed")
        + (f"; none that got worse is {' or '.join(gate)}" if spared else ""),
        good=not worse,
        blocks=tuple(
            _change_table(kind, listed)
            for kind, listed in found.items()
            if kind is not ChangeKind.PROFILE
        ),
    )


def _other_differences(old: ContractReport, new: ContractReport) -> list[str]:
    """Other differences between the runs, which may be the reason for changes."""
    pairs = {
        name: (getattr(old.header, name), getattr(new.header, name))
        for name in ("engine", "model", "mode", "tier", "tool_version")
    }
    return [f"{name} differs: {a}, then {b}" for name, (a, b) in pairs.items() if a != b]


# Characters per cell: about two lines beside the other columns of a terminal.
_LONGEST = 120


def _change_table(kind: ChangeKind, listed: Sequence[Change]) -> Table:
    return Table(
        ("rule", "level", "before", "after", "why"),
        tuple(map(_change_row, listed)),
        f"{kind} ({len(listed)})",
        longest=_LONGEST,
    )


def _change_row(change: Change) -> tuple[Cell, ...]:
    records = [record for record in (change.after, change.before) if record is not None]
    reasons = [] if change.kind is ChangeKind.GONE else [record.reason for record in records]
    return (
        Cell(change.id),
        Cell(change.level),
        _verdict_cell(change.before),
        _verdict_cell(change.after),
        Cell(one_line(next(filter(None, reasons), ""))),
    )
