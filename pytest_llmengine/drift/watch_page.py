"""The report of a watch as a page, printed to a terminal or written to a file."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_llmengine.drift.baseline import DriftUnit
from pytest_llmengine.drift.charts import e_value_chart, score_chart
from pytest_llmengine.drift.report import DriftVerdict, head_of
from pytest_llmengine.drift.schema import JSONWatchReport
from pytest_llmengine.drift.watch import counted, look_unit
from pytest_llmengine.reports import page as pages
from pytest_llmengine.reports.page import Page, Table, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from pytest_llmengine.drift.journal import WatchLook
    from pytest_llmengine.drift.watch import WatchReport, WatchRow
    from pytest_llmengine.reports.page import Block

SCHEMA_VERSION = 1
_LAST = 7  # looks that a terminal shows
_GOOD = {DriftVerdict.SAME: True, DriftVerdict.CHANGED: False, DriftVerdict.UNKNOWN: None}


def print_watch(report: WatchReport, console: Console) -> None:
    """Print the evidence, the last looks, and the verdict."""
    pages.print_page(_page(report, _blocks(report, report.looks[-_LAST:])), console)


def write_watch(report: WatchReport, path: Path) -> None:
    """Write the report as JSON, Markdown or HTML by the file's suffix; known keys are removed.

    Raises ConfigError if the suffix is unknown or the folder does not exist.
    """
    pages.write_report(path, lambda: watch_page(report), lambda: to_json(report))


def watch_page(report: WatchReport) -> Page:
    """The report as a page, with charts and all looks."""
    charts = [chart for chart in (e_value_chart(report), score_chart(report)) if chart is not None]
    blocks = _blocks(report, report.looks)
    return _page(report, [*blocks[:1], *charts, *blocks[1:]])


def _page(report: WatchReport, blocks: Sequence[Block]) -> Page:
    return Page(
        title=f"Drift watch: {report.baseline.facts.name}",
        lines=tuple(_lines(report)),
        summary=f"{report.verdict}: {report.reason}",
        good=_GOOD[report.verdict],
        blocks=tuple(blocks),
        note=report.note,
    )


def _lines(report: WatchReport) -> Iterator[str]:
    yield f"baseline {report.baseline.describe()}"
    if report.facts is not None:
        yield f"server {report.facts.describe()}"
    if report.journal is not None:
        earlier = f", and {report.earlier} at earlier baselines" if report.earlier else ""
        yield f"journal {report.journal}: {counted(len(report.looks), 'look')}{earlier}"
    unit = "session" if look_unit(report.baseline) is DriftUnit.SESSION else "round of a look"
    yield f"false-alarm rate {report.alpha:g} for all looks together; each {unit} has a score"
    if report.looks:
        last = report.looks[-1]
        yield (
            f"cost of this look {last.requests} requests, {last.prompt_tokens} prompt tokens, "
            f"{last.completion_tokens} completion tokens"
        )


_HEADS = ("evidence", "score", "e-value", "highest", "alarm", "what would be found")


def _blocks(report: WatchReport, looks: Sequence[WatchLook]) -> list[Block]:
    blocks: list[Block] = []
    if report.rows:
        rows = [_cells(row, report) for row in report.rows]
        blocks.append(Table.of_texts(_HEADS, rows, right=_HEADS[1:4], unwrapped=_HEADS[:4]))
    if report.named:
        named = [(change.name, change.seen) for change in report.named]
        blocks.append(Table.of_texts(("likely cause", "what was seen"), named, "What may differ"))
    if looks:
        heads = ("look", "requests", "largest e-value", "what was found")
        found = [_look_cells(look) for look in looks]
        blocks.append(Table.of_texts(heads, found, "Looks", right=heads[1:3], unwrapped=heads[:3]))
    return blocks


def _cells(row: WatchRow, report: WatchReport) -> tuple[str, ...]:
    """The cells of a kind of evidence; its score is the largest of the last look."""
    last = () if report.last is None else report.last.scores.get(row.evidence, ())
    return (
        row.evidence,
        f"{max(last):.3g}" if last else "",
        f"{row.e_value:.3g}",
        f"{row.highest:.3g} of {report.limit:g}",
        row.alarm or "",
        _finds(row),
    )


def _finds(row: WatchRow) -> str:
    if row.alarm:
        return ""
    if row.looks_to_alarm is None:
        return "nothing within a year"
    size = row.smallest_change
    change = f"a change of more than {size:.3g} prompts" if size else "any change"
    return f"{change}, within {counted(row.looks_to_alarm, 'look')}"


def _look_cells(look: WatchLook) -> tuple[str, ...]:
    said = f"does not count: {look.error}" if look.error else "; ".join(look.findings)
    largest = max(look.e_values.values(), default=None)
    return (
        look.date,
        str(look.requests),
        "" if largest is None else f"{largest:.3g}",
        one_line(said) or ("changed" if look.changed else ""),
    )


def to_dict(report: WatchReport) -> dict[str, Any]:
    """The report as a JSON object; its version is raised when a field is renamed or removed."""
    baseline = report.baseline
    last = report.looks[-1] if report.looks else None
    row = {
        "schema_version": SCHEMA_VERSION,
        "verdict": report.verdict.value,
        "reason": report.reason,
        "alpha": report.alpha,
        "tier": baseline.probe.tier.value,
        "unit": look_unit(baseline).value,
        "baseline": head_of(baseline),
        "candidate": None if report.facts is None else {"facts": asdict(report.facts)},
        "named_changes": [asdict(change) for change in report.named],
        "cost": _cost(last),
        "limit": report.limit,
        "journal": None if report.journal is None else str(report.journal),
        "earlier_looks": report.earlier,
        "note": report.note,
        "rows": [
            asdict(one)
            | {name: list(getattr(one, name)) for name in ("calibration", "scores", "e_values")}
            for one in report.rows
        ],
        "looks": [
            {
                "date": look.date,
                "changed": look.changed,
                "error": look.error,
                "findings": list(look.findings),
                "cost": _cost(look),
            }
            for look in report.looks
        ],
    }
    return JSONWatchReport.model_validate(row).model_dump(mode="json")


def _cost(look: WatchLook | None) -> dict[str, int]:
    return {
        name: 0 if look is None else getattr(look, name)
        for name in ("requests", "prompt_tokens", "completion_tokens")
    }


def to_json(report: WatchReport) -> str:
    """The report as JSON text, ready to be written to a file."""
    return json.dumps(to_dict(report), indent=2, ensure_ascii=False) + "\n"
