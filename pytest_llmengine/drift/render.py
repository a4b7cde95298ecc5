"""The report of a check as a page, printed to a terminal or written to a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.drift.answers import RoundKind
from pytest_llmengine.drift.baseline import DriftTier, DriftUnit
from pytest_llmengine.drift.charts import distance_chart
from pytest_llmengine.drift.exchangeability import depends_on_load
from pytest_llmengine.drift.measure import SAMPLING
from pytest_llmengine.drift.report import DriftVerdict
from pytest_llmengine.reports import page as pages
from pytest_llmengine.reports.page import Page, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from pytest_llmengine.drift.baseline import Baseline
    from pytest_llmengine.drift.report import DriftReport, EvidenceRow
    from pytest_llmengine.reports.page import Block

_WHAT = {
    DriftTier.LOGPROBS: "log-probabilities and text",
    DriftTier.TEXT: "text only",
    DriftTier.WEIGHTS: "sampled tokens, judged by a reference with the same weights",
}
_GOOD = {DriftVerdict.SAME: True, DriftVerdict.CHANGED: False, DriftVerdict.UNKNOWN: None}


def print_report(report: DriftReport, console: Console) -> None:
    """Print the sides, the hypothesis, the tests, what was found, and the verdict."""
    pages.print_page(_page(report, _blocks(report)), console)


def write_report(report: DriftReport, path: Path) -> None:
    """Write the report as JSON, Markdown or HTML by the file's suffix; known keys are removed.

    Raises ConfigError if the suffix is unknown or the folder does not exist.
    """
    pages.write_report(path, lambda: drift_page(report), report.to_json)


def drift_page(report: DriftReport) -> Page:
    """The report as a page, with a chart of the distances from the baseline."""
    blocks = _blocks(report)
    if (chart := distance_chart(report)) is not None:
        blocks.insert(1, chart)
    return _page(report, blocks)


def _blocks(report: DriftReport) -> list[Block]:
    blocks: list[Block] = []
    if report.rows:
        blocks.append(_row_table(report))
    if report.findings:
        blocks.append(_finding_table(report))
    if report.named:
        named = [(change.name, change.seen) for change in report.named]
        blocks.append(Table.of_texts(("likely cause", "what was seen"), named, "What may differ"))
    return blocks


def _page(report: DriftReport, blocks: Sequence[Block]) -> Page:
    return Page(
        title=f"Drift: {report.baseline.facts.name}",
        lines=tuple(_lines(report)),
        summary=f"{report.verdict}: {report.reason}",
        good=_GOOD[report.verdict],
        blocks=tuple(blocks),
    )


def baseline_lines(baseline: Baseline, note: str) -> Iterator[str]:
    """What a baseline holds, what it cost, and what a check will compare."""
    probe, sessions = baseline.probe, baseline.sessions
    yield baseline.describe()
    yield f"tier {probe.tier}: {_WHAT[probe.tier]}"
    if probe.tier is DriftTier.WEIGHTS:
        tokens = probe.prompts[0].max_tokens
        yield f"{len(probe.prompts)} prompts, {tokens} tokens sampled under a seed of each round"
    else:
        yield f"{len(probe.of_kind(RoundKind.FIRST))} prompts of one token: {note}"
        requests = baseline.search_requests + sum(session.requests for session in sessions)
        chosen = baseline.search_requests
        yield f"cost {requests} requests, {chosen} of them for the choice of prompts"
    if unsent := [name for name in SAMPLING if name not in probe.sampling]:
        yield f"the protocol has no field for {', '.join(unsent)}"
    if baseline.self_test is None:
        yield "the sessions were not compared, since that takes two sessions of two rounds"
    else:
        seen = "differ from" if baseline.unit is DriftUnit.SESSION else "are like"
        yield f"the sessions {seen} each other (p = {baseline.self_test:.2g})"
    if depends_on_load(baseline):
        yield (
            "answers depend on the number of requests in flight "
            f"(p = {baseline.load_dependence:.2g}); only larger differences are a change"
        )
    yield f"a check exchanges {_UNITS[baseline.unit]} with another"


def _lines(report: DriftReport) -> Iterator[str]:
    baseline = report.baseline
    yield f"baseline {baseline.describe()}"
    if report.facts is not None:
        yield f"candidate {report.facts.describe()}"
    yield f"hypothesis: {report.hypothesis}"
    yield f"false-alarm rate {report.alpha:g} for all rows together"
    yield (
        f"tier {baseline.probe.tier}: {_WHAT[baseline.probe.tier]}; {_UNITS[report.unit]} is "
        "exchanged with another"
    )
    prompt_tokens, completion_tokens = report.tokens
    yield (
        f"cost {report.requests} requests, {prompt_tokens} prompt tokens, "
        f"{completion_tokens} completion tokens"
    )


_UNITS = {DriftUnit.ROUND: "one round", DriftUnit.SESSION: "one session"}


def _row_table(report: DriftReport) -> Table:
    heads = ("evidence", "units", "p", "adjusted p", "would have seen a change of")
    rows = [_cells(row) for row in report.rows]
    return Table.of_texts(heads, rows, "Tests", right=heads[1:4], unwrapped=heads[:4])


def _cells(row: EvidenceRow) -> tuple[str, ...]:
    units = f"{row.units[0]} + {row.units[1]}"
    if row.p_value is None or row.adjusted is None:
        return row.evidence, units, "", "", row.note
    note = f" ({row.note})" if row.note else ""
    return row.evidence, units, _number(row.p_value), _number(row.adjusted), row.would_see + note


def _number(p_value: float) -> str:
    return f"{p_value:.2g}"


def _finding_table(report: DriftReport) -> Table:
    heads = ("finding", "what was seen", "prompt")
    rows = [(found.name, found.detail, found.prompt or "") for found in report.findings]
    return Table.of_texts(heads, rows, "Found without statistics")
