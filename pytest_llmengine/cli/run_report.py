"""The summary of a run: a table of its steps, what failed, and where everything is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmengine.cli.console import print_rows

if TYPE_CHECKING:
    from rich.console import Console

    from llmengine.integrations.chainette.chains import ChainReport
    from llmengine.pipeline import Chain, RunReport

_SHOWN = 10
_COLUMNS = {
    "answered": "answered",
    "failed": "failed",
    "attempts": "attempts",
    "prompt_tokens": "tokens in",
    "completion_tokens": "tokens out",
    "cost": "cost",
}


def print_report(report: RunReport, chain: Chain, console: Console) -> None:
    """Print the table, the first failures, and the folder."""
    heads = ("step", "engine", *_COLUMNS.values())
    rows = [(s.id, s.engine, *_cells(report.usage["steps"][s.id])) for s in chain.steps]
    rows.append(("all", "", *_cells(report.usage["total"])))
    print_rows(heads, rows, right=_COLUMNS.values())
    failed = [record for record in report.records if record["error"]]
    for record in failed[:_SHOWN]:
        console.print(_failure(record), soft_wrap=True)
    if len(failed) > _SHOWN:
        console.print(f"and {len(failed) - _SHOWN} more, in outputs.jsonl")
    console.print(_last_line(report), soft_wrap=True)


def print_chain_report(report: ChainReport, console: Console) -> None:
    """Print the first items that a chain of Chainette skipped, and the folder."""
    for item in report.skipped[:_SHOWN]:
        console.print(f"skipped: {' '.join(str(item).split())}", soft_wrap=True)
    if len(report.skipped) > _SHOWN:
        console.print(f"and {len(report.skipped) - _SHOWN} more, in skipped.jsonl")
    items = "1 item" if report.items == 1 else f"{report.items} items"
    told = f"{report.answered} answered, {report.items - report.answered} skipped"
    console.print(f"{items}: {told}; all of it is in {report.folder}", soft_wrap=True)


def _cells(counts: dict[str, Any]) -> list[str]:
    return [_cell(counts, name) for name in _COLUMNS]


def _cell(counts: dict[str, Any], name: str) -> str:
    if counts[name] is None:
        return "unknown"
    if name == "cost":
        return f"{counts['cost']:.4g} {counts['currency'] or ''}".strip()
    return str(counts[name])


def _failure(record: dict[str, Any]) -> str:
    error = record["error"]
    words = " ".join(error["message"].split())
    return f"failed: record {record['id']}: step {error['step']}: {error['type']}: {words}"


def _last_line(report: RunReport) -> str:
    counts = report.counts
    records = "1 record" if counts["records"] == 1 else f"{counts['records']} records"
    told = f"{counts['answered']} answered, {counts['failed']} failed"
    return f"{records}: {told}; all of it is in {report.folder}"
