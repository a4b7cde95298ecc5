"""Recorded real changes of a llama.cpp server: each has the verdict that the tables show.

``benchmarks/drift/table.py`` recorded them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import drift_table  # in tools/
import pytest

from pytest_llmengine.drift import Baseline, DriftReport, DriftVerdict, RoundKind, judge, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.drift import DriftAnswer, DriftRound

RECORDED = Path(__file__).parent / "recorded"
MEASURED: dict[str, dict[str, dict[str, Any]]] = json.loads(
    (RECORDED / "changes.json").read_text("utf-8")
)
CASES = [(change, tier) for change, tiers in MEASURED.items() for tier in tiers]


@cache
def recorded(file: str) -> Baseline:
    """A baseline or a candidate."""
    return load(RECORDED / file)


def report_on(change: str, tier: str) -> DriftReport:
    """The report on the recorded candidate."""
    row = MEASURED[change][tier]
    candidate = recorded(row["file"])
    return judge(recorded(row["baseline"]), candidate.sessions, facts=candidate.facts, power=False)


@pytest.mark.parametrize(("change", "tier"), CASES)
def test_a_recorded_change_has_its_verdict(change: str, tier: str) -> None:
    """The verdict, the evidence for it and the findings are those of the summary."""
    report = report_on(change, tier)

    significant = (row for row in report.rows if row.adjusted is not None)
    assert {
        "verdict": report.verdict,
        "evidence": [row.evidence for row in significant if row.adjusted <= report.alpha],
        "findings": list(dict.fromkeys(finding.name for finding in report.findings)),
    } == MEASURED[change][tier]["recorded"]


@pytest.mark.parametrize("against", ["", ", of bfloat16"])
def test_no_run_without_a_change_raised_an_alarm(against: str) -> None:
    """Under any load, with and without noise."""
    names = {change for change, _ in CASES if change.startswith("none")}
    without = [name for name in names if name.endswith(", of bfloat16") is bool(against)]
    rows = [MEASURED[change][tier] for change, tier in CASES if change in without]

    assert f"none{against}" in without
    assert [row["changed"] + row["unknown"] for row in rows] == [0] * len(rows)


def test_the_files_are_those_of_the_table() -> None:
    """No file is left over, and none is missing."""
    rows = [MEASURED[change][tier] for change, tier in CASES]
    used = {row[name] for row in rows for name in ("file", "baseline")}

    assert {path.name for path in RECORDED.glob("*.gz")} == used


@pytest.mark.parametrize("page", drift_table.PAGES, ids=lambda page: page.name)
def test_the_tables_are_written(page: Path) -> None:
    """The pages have the tables of the present summary."""
    assert page.read_text("utf-8") == drift_table.written(page), "run tools/drift_table.py"


def with_one_answer(change: Callable[[DriftRound], DriftAnswer]) -> DriftReport:
    """The report on the server without a change, if its first answer is replaced."""
    row = MEASURED["none"]["logprobs"]
    candidate = recorded(row["file"])
    (session,) = candidate.sessions
    first = next(one for one in session.rounds if one.kind is RoundKind.FIRST)
    changed = replace(first, answers=(change(first), *first.answers[1:]))
    rounds = tuple(changed if one is first else one for one in session.rounds)
    return judge(recorded(row["baseline"]), [replace(session, rounds=rounds)], power=False)


def test_one_answer_to_another_prompt_is_found() -> None:
    """Its log-probabilities are those of the other prompt, so no statistics are needed."""
    report = with_one_answer(lambda one: replace(one.answers[1], prompt=0))

    assert report.verdict is DriftVerdict.CHANGED
    assert [finding.name for finding in report.findings] == ["the answer to another prompt"]
    assert "an answer to prompt 2" in report.findings[0].detail


def test_one_answer_that_ends_before_its_limit_is_found() -> None:
    """A gateway that drops a token and counts one less leaves the reason that it ended."""
    report = with_one_answer(lambda one: replace(one.answers[0], text="", completion_tokens=0))

    names = [finding.name for finding in report.findings]
    assert report.verdict is DriftVerdict.CHANGED
    assert "an end at the limit before the limit" in names
