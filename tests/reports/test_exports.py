"""JUnit, CTRF, SARIF, the badge and the job summary."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.reports import CheckRecord, ContractReport, write_report
from pytest_llmengine.reports.exports import job_summary, to_badge, to_ctrf, to_junit, to_sarif
from pytest_llmengine.reports.files import with_engine
from pytest_llmengine.reports.page import to_markdown


def _follows(report: ContractReport) -> ContractReport:
    """The report, in which the second verdict that is not accepted follows from the first."""
    first, second, *_ = [c.id for c in report.checks if not c.accepted]
    checks = [replace(c, fact="no stream") if c.id in {first, second} else c for c in report.checks]
    return replace(report, checks=tuple(checks))


def test_junit_has_a_case_per_check(report: ContractReport) -> None:
    """What is not accepted is a failure, a check without a verdict an error or skipped."""
    suites = ET.fromstring(to_junit(report))

    cases = {case.get("name"): [child.tag for child in case] for case in suites.iter("testcase")}
    assert [cases[record.id] for record in report.checks] == [_junit(r) for r in report.checks]
    assert {name: suites.get(name) for name in ("tests", "failures", "errors")} == {
        "tests": "9",
        "failures": "3",
        "errors": "1",
    }
    assert [suite.get("name") for suite in suites] == list(report.groups)


def _junit(record: CheckRecord) -> list[str]:
    """The element that a case has, by its outcome."""
    by_outcome = {
        Outcome.PASS: [],
        Outcome.DEVIATES: ["system-out"],
        Outcome.UNMEASURED: ["skipped"],
        Outcome.ERROR: ["error"],
    }
    if record.outcome is Outcome.REFUSED and record.accepted:
        return ["skipped"]
    return by_outcome.get(record.outcome, ["failure"])


def test_interrupted_run_is_not_green(report: ContractReport) -> None:
    """A check that was not run is an error, and not skipped."""
    cut = replace(report.checks[0], outcome=Outcome.NOT_RUN, accepted=False, reason="interrupted")

    suites = ET.fromstring(to_junit(replace(report, checks=(cut,))))

    assert suites.get("errors") == "1"
    assert json.loads(to_ctrf(replace(report, checks=(cut,))))["results"]["summary"]["other"] == 1


def test_junit_stays_well_formed(report: ContractReport) -> None:
    """A server's control characters and markup cannot break the file."""
    odd = replace(report.checks[2], reason="\x00\x1b[31m</failure>]]>\ufffe&\ud800")

    case = ET.fromstring(to_junit(replace(report, checks=(odd,)))).find(".//failure")

    assert case is not None
    assert "</failure>]]>" in str(case.text)


def test_ctrf_counts_what_it_lists(report: ContractReport) -> None:
    """The summary agrees with the tests; the outcome is kept beside the status."""
    results = json.loads(to_ctrf(report))["results"]

    statuses = [test["status"] for test in results["tests"]]
    counts = {name: statuses.count(name) for name in ("passed", "failed", "skipped", "other")}
    assert counts == {"passed": 3, "failed": 3, "skipped": 2, "other": 1}
    assert results["summary"] == counts | {
        "tests": 9,
        "pending": 0,
        "start": 1795255200000,
        "stop": 1795255202250,
        "duration": 2250,
    }
    assert [test["rawStatus"] for test in results["tests"]] == [c.outcome for c in report.checks]


def test_sarif_has_a_result_per_finding(report: ContractReport) -> None:
    """A verdict that follows is counted with its cause; an error is a notification."""
    told = _follows(report)
    wrong = [c for c in told.checks if not c.accepted]

    run = json.loads(to_sarif(told))["runs"][0]

    results = run["results"]
    errors = [c.id for c in wrong if c.outcome is Outcome.ERROR]
    expected = [c.id for c in wrong if c.id not in {wrong[1].id, *errors}]
    assert [result["ruleId"] for result in results] == expected
    assert results[0]["message"]["text"].endswith("(1 more rule fails for this reason)")
    rules = run["tool"]["driver"]["rules"]
    assert [rules[result["ruleIndex"]]["id"] for result in results] == expected
    location = results[0]["locations"][0]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "chat/completions"
    assert location["logicalLocations"][0]["fullyQualifiedName"] == "POST /chat/completions"
    invocation = run["invocations"][0]
    assert invocation["executionSuccessful"] is False
    assert [
        n["message"]["text"].split(":")[0] for n in invocation["toolExecutionNotifications"]
    ] == (errors)


def test_verdict_that_follows_from_an_accepted_one_is_a_result(report: ContractReport) -> None:
    """A profile may accept the cause, and not what follows from it."""
    fail = replace(report.checks[2], fact="no stream")
    known = replace(fail, id="a.known", outcome=Outcome.DEVIATES, accepted=True)

    told = replace(report, checks=(known, fail))

    assert [r["ruleId"] for r in json.loads(to_sarif(told))["runs"][0]["results"]] == [fail.id]


def test_sarif_says_what_breaks(report: ContractReport) -> None:
    """The rule of a finding has its sentence, what it means for a client, and its source."""
    rule = catalogue()["chat.basic.required_fields"]
    record = replace(report.checks[2], id=rule.id, level="optional")

    run: dict[str, Any] = json.loads(to_sarif(replace(report, checks=(record,))))["runs"][0]

    described = run["tool"]["driver"]["rules"][0]
    assert described["shortDescription"]["text"] == rule.title
    assert described["fullDescription"]["text"] == rule.breaks
    assert described["helpUri"] == rule.citations[0].link
    assert run["results"][0]["level"] == "note"
    assert run["invocations"][0]["executionSuccessful"] is True


@pytest.mark.parametrize(
    ("change", "message", "color"),
    [
        ({}, "2/7 rules", "red"),
        ({"level": "expected"}, "2/7 rules", "orange"),
        ({"accepted": True}, "2/7 rules", "brightgreen"),
        ({"outcome": Outcome.NOT_RUN}, "not measured", "red"),
    ],
)
def test_badge_counts_the_rules_that_are_kept(
    report: ContractReport, change: dict[str, Any], message: str, color: str
) -> None:
    """Rules without a verdict do not count; the color is for the worst level."""
    changed = replace(report, checks=tuple(replace(c, **change) for c in report.checks))

    assert json.loads(to_badge(changed)) == {
        "schemaVersion": 1,
        "label": "LLM contract",
        "message": message,
        "color": color,
    }


def test_job_summary_is_short_and_begins_with_the_highest_level(report: ContractReport) -> None:
    """It has the first findings, without those that follow, and no pass."""
    fail = report.checks[2]
    many = [replace(fail, id=f"a.b{n}", level="quirk") for n in range(30)]
    required = replace(fail, id="a.required", fact="x")
    after = replace(fail, id="a.after", fact="x")
    page = job_summary(replace(report, checks=(*many, required, after, report.checks[0])))

    rows = [line for line in to_markdown(page).splitlines() if line.startswith("| a")]
    assert len(rows) == 20
    assert rows[0].startswith("| a.required | required | fail | no usage in the last chunk | 1 |")
    assert "## Findings (31, the first 20)" in to_markdown(page)


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("r.ctrf.json", '{\n  "reportFormat": "CTRF"'),
        ("r.badge.json", '{\n  "schemaVersion": 1'),
        ("r.xml", "<?xml"),
        ("r.sarif", '{\n  "$schema"'),
    ],
)
def test_end_of_the_name_chooses_the_format(
    report: ContractReport, tmp_path: Path, name: str, begins: str
) -> None:
    """The longest end counts: `.badge.json` is not the JSON report."""
    write_report(report, tmp_path / name)

    assert (tmp_path / name).read_text("utf-8").startswith(begins)


def test_name_of_an_engine_stands_before_the_end_of_the_format() -> None:
    """With several engines there is a file per engine."""
    assert with_engine(Path("a/r.badge.json"), "mock") == Path("a/r-mock.badge.json")
    assert with_engine(Path("r.html"), "mock") == Path("r-mock.html")
