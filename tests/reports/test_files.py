"""JSON and Markdown reports."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import jsonschema
import pytest
import report_schema  # in tools/

from llmengine import ConfigError
from pytest_llmengine.reports import CheckRecord, ContractReport, check_report_path, write_report
from pytest_llmengine.reports.contract_page import contract_page
from pytest_llmengine.reports.json import to_json, to_object
from pytest_llmengine.reports.page import to_html, to_markdown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SCHEMA = json.loads(report_schema.SCHEMA.read_text("utf-8"))


def test_json_has_the_published_schema(report: ContractReport) -> None:
    """Every field has its type, and each field is in the schema."""
    written = json.loads(to_json(report))
    jsonschema.validate(written, SCHEMA)

    def part(name: str) -> set[str]:
        return set(SCHEMA["$defs"][name]["properties"])

    assert set(written) <= set(SCHEMA["properties"])
    assert set(written["provenance"]) <= part("JSONProvenance")
    assert set(written["summary"]) == part("JSONSummary")
    assert set().union(*written["checks"]) == part("JSONCheck")
    exchanges = [e for check in written["checks"] for e in check.get("exchanges", [])]
    optional = {"root", "request_headers"}
    assert set().union(*exchanges) | optional == part("JSONExchange")


def test_the_schema_and_its_page_are_fresh() -> None:
    """``python tools/report_schema.py`` writes both."""
    assert report_schema.SCHEMA.read_text("utf-8") == report_schema.schema_text()
    assert report_schema.PAGE.read_text("utf-8") == report_schema.page_text()


def test_json_names_what_was_tested(report: ContractReport) -> None:
    """The header has the provenance, field by field."""
    assert to_object(report)["provenance"] == {
        "engine": "embedded",
        "version": "b11549",
        "model": "smollm2-135m",
        "mode": "replay",
        "describe": "replayed from llama.cpp b11549 (smollm2-135m), recorded 2026-11-21",
        "tier": "core",
        "date": "2026-11-21T10:00:00Z",
        "tool_version": "0.1.0",
        "name": "",
    }


def test_json_counts_what_it_lists(report: ContractReport) -> None:
    """The summary agrees with the checks."""
    assert to_object(report)["summary"] == {
        "checks": 9,
        "accepted": 5,
        "not_accepted": 4,
        "findings": 4,
        "outcomes": {
            "pass": 2,
            "fail": 1,
            "refused": 2,
            "ignored": 1,
            "lenient": 0,
            "deviates": 1,
            "unmeasured": 1,
            "error": 1,
            "not_run": 0,
            "unrecorded": 0,
        },
        "seconds": 2.25,
    }


def test_a_later_verdict_with_the_same_fact_follows(report: ContractReport) -> None:
    """Verdicts with one cause count as one finding, and the later ones name the first."""
    first, second, *others = [c for c in report.checks if not c.accepted]
    same = {c.id: replace(c, fact="streams are answered with 500") for c in (first, second)}
    told = replace(report, checks=tuple(same.get(c.id, c) for c in report.checks))
    rows = {row["id"]: row["follows"] for row in to_object(told)["checks"]}
    assert {i: cause for i, cause in rows.items() if cause} == {second.id: first.id}
    assert told.findings == 1 + len(others)
    assert f"follows from `{first.id}`" in to_markdown(contract_page(told))
    assert f'href="#{first.id}"' in to_html(contract_page(told))
    assert f"({told.findings} without those that follow)" in to_markdown(contract_page(told))


@pytest.mark.parametrize(
    ("facts", "follows"),
    [
        (("a", "b", "a; b"), True),  # both causes are known
        (("a", "c", "a; b"), False),  # b is new
        (("a", "c", "b | a"), True),  # it may be a
        (("b | x", "c", "b"), True),  # the first verdict shows b
        (("b | x", "c", "x"), False),  # and not x
    ],
)
def test_a_verdict_may_have_several_causes(
    report: ContractReport, facts: tuple[str, ...], follows: bool
) -> None:
    """It follows if each of its causes is known, in one of its forms."""
    checks = [replace(c, fact=f) for c, f in zip(report.checks, facts, strict=False)]
    told = replace(report, checks=tuple(checks))
    assert told.follows == ({checks[2].id: checks[0].id} if follows else {})


def test_what_follows_names_a_finding(report: ContractReport) -> None:
    """The cause is a verdict that follows from no other, also through one that does."""
    first, second, third, *rest = report.checks
    facts = zip((first, second, third), ("a", "b | a", "b"), strict=True)
    told = replace(report, checks=(*(replace(c, fact=f) for c, f in facts), *rest))
    assert told.follows == {second.id: first.id, third.id: first.id}


def test_json_can_be_read_back(report: ContractReport) -> None:
    """The checks of a JSON report are records again."""
    rows = json.loads(to_json(report))["checks"]
    assert tuple(CheckRecord.from_dict(row) for row in rows) == report.checks


def test_required_rules_come_first_in_a_section(report: ContractReport) -> None:
    """The order of the catalogue counts only within a level."""
    levels = ("quirk", "expected", "required", "optional")
    failed = [c for c in report.checks if not c.accepted]
    mixed = [replace(c, level=level) for c, level in zip(failed, levels, strict=True)]
    text = to_markdown(contract_page(replace(report, checks=tuple(mixed))))
    assert re.findall(r"^- .*\((\w+)\)", text, re.MULTILINE) == [
        "required",
        "expected",
        "optional",
        "quirk",
    ]


def test_markdown_has_the_matrix(report: ContractReport) -> None:
    """A table with one row per group, and a last row with the sums."""
    rows = re.findall(r"^\|.*\|$", to_markdown(contract_page(report)), re.MULTILINE)
    assert rows[0] == "| group | pass | fail | refused | ignored | deviates | unmeasured | error |"
    assert rows[3] == "| chat.stream |  | 1 |  |  | 1 | 1 |  |"
    assert rows[-1] == "| **all** | 2 | 1 | 2 | 1 | 1 | 1 | 1 |"


def test_markdown_lists_failures_apart(report: ContractReport) -> None:
    """Failures, deviations, accepted refusals and unmeasured checks have headings of their own."""
    assert re.findall(r"^## (.*)$", to_markdown(contract_page(report)), re.MULTILINE) == [
        "Not accepted (4)",
        "Known deviations (1)",
        "Refused, and not claimed by the profile (1)",
        "Not measured (1)",
    ]


def test_markdown_escapes_what_servers_say(report: ContractReport) -> None:
    """A reason cannot break the list, make a link or insert HTML."""
    odd = replace(report.checks[2], reason="<b>|x|</b>\n# [a](http://b) `c`")
    assert to_markdown(contract_page(ContractReport(report.header, (odd,)))).splitlines()[-1] == (
        r"- **fail** `chat.stream.usage` (required): "
        r"\<b\>\|x\|\</b\> \# \[a\](http://b) \`c\`"
    )


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("report.json", to_json),
        ("report.md", lambda report: to_markdown(contract_page(report))),
        ("report.html", lambda report: to_html(contract_page(report))),
    ],
)
def test_suffix_chooses_the_format(
    report: ContractReport, tmp_path: Path, name: str, form: Callable[[ContractReport], str]
) -> None:
    """`.json` gets JSON, `.md` gets Markdown and `.html` gets a page."""
    path = tmp_path / name
    write_report(report, path)
    expected = form(report)
    assert path.read_text("utf-8") == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("report.txt", "must end in .ctrf.json, .badge.json, .xml, .sarif, .json, .md, .html"),
        ("none/report.json", "there is no directory"),
    ],
)
def test_impossible_path_is_an_error_before_the_run(tmp_path: Path, name: str, said: str) -> None:
    """One line names a path that cannot be written."""
    with pytest.raises(ConfigError, match=said):
        check_report_path(tmp_path / name)
