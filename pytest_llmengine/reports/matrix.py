"""Several reports as one matrix: a row a rule, a column a server."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.reports.page import Cell, Page, Table, verdict_cell
from pytest_llmengine.reports.words import header_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_llmengine.reports.record import CheckRecord
    from pytest_llmengine.reports.report import Report

    Row = tuple[str, list[CheckRecord | None]]


def matrix_page(reports: Sequence[Report], *, every: bool) -> Page:
    """The reports side by side; without `every`, only rules that some server does not pass."""
    names = labels(reports)
    rows = list(_rows(reports))
    odd = [row for row in rows if not _passes(row)]
    title = f"Rules that some server does not pass ({len(odd)} of {len(rows)})"
    shown = rows if every else odd
    return Page(
        title="Contract matrix",
        lines=tuple(
            f"{name}: {'; '.join(header_lines(report))}"
            for name, report in zip(names, reports, strict=True)
        ),
        summary=f"{len(rows)} rules, {len(reports)} reports: {len(rows) - len(odd)} pass wherever "
        'they were run ("!" is not accepted, "-" was not run)',
        good=None,
        tables=(
            _servers(names, reports),
            _rules(f"Rules ({len(rows)})" if every else title, names, shown),
        ),
    )


def labels(reports: Sequence[Report]) -> list[str]:
    """A short name of its own for each report: the engine, with as much more as it takes."""
    plain = [report.header.engine for report in reports]
    longer = [f"{r.header.engine} {r.header.version or r.header.model}" for r in reports]
    chosen = [_pick(plain, longer, place) for place in range(len(reports))]
    return [_numbered(chosen, place) for place in range(len(chosen))]


def by_catalogue(ids: Iterable[str]) -> list[str]:
    """The ids in the order of the catalogue; those that it no longer has come last."""
    order = {known: place for place, known in enumerate(catalogue())}
    return sorted(dict.fromkeys(ids), key=lambda one: order.get(one, len(order)))


def _pick(plain: Sequence[str], longer: Sequence[str], place: int) -> str:
    return plain[place] if plain.count(plain[place]) == 1 else longer[place]


def _numbered(chosen: Sequence[str], place: int) -> str:
    name = chosen[place]
    return name if chosen.count(name) == 1 else f"{name} ({chosen[: place + 1].count(name)})"


def _rows(reports: Sequence[Report]) -> Iterable[Row]:
    found: list[Mapping[str, CheckRecord]] = [{c.id: c for c in r.checks} for r in reports]
    for one in by_catalogue(id_ for records in found for id_ in records):
        yield one, [records.get(one) for records in found]


def _passes(row: Row) -> bool:
    return all(record.outcome is Outcome.PASS for record in row[1] if record is not None)


def _servers(names: Sequence[str], reports: Sequence[Report]) -> Table:
    total: Counter[Outcome] = Counter()
    for report in reports:
        total.update(report.outcomes)
    shown = [outcome for outcome in Outcome if total[outcome] or outcome is Outcome.PASS]
    rows = (
        (
            Cell(name),
            Cell(str(len(report.checks))),
            *(Cell(str(n), o) if (n := report.outcomes[o]) else Cell("-") for o in shown),
            Cell(str(report.summary()["not_accepted"] or "-")),
        )
        for name, report in zip(names, reports, strict=True)
    )
    heads = ("server", "checks", *map(str, shown), "not accepted")
    return Table("Servers", heads, tuple(rows))


def _rules(title: str, names: Sequence[str], rows: Sequence[Row]) -> Table:
    told = (
        (
            Cell(one),
            Cell(next(r.level for r in records if r is not None)),
            *map(verdict_cell, records),
        )
        for one, records in rows
    )
    return Table(title, ("rule", "level", *names), tuple(told))
