"""The table of the schema matrix in each form of the report."""

from __future__ import annotations

import io
import json
from dataclasses import replace

from rich.console import Console

from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.reports import CheckRecord, ContractReport, print_report
from pytest_llmengine.reports.comparison_page import matrix_page
from pytest_llmengine.reports.contract_page import contract_page
from pytest_llmengine.reports.json import to_object
from pytest_llmengine.reports.page import to_html, to_markdown

from .conftest import HEADER, result

TITLE = "Features of JSON schemas"


def _record(rule: str, outcome: Outcome, observed: Outcome | None = None) -> CheckRecord:
    """The record of a rule of the matrix, with another outcome before the profile was applied."""
    found = result(f"struct.matrix.{rule}", outcome, "so", accepted=True)
    return CheckRecord.of(replace(found, observed=observed or outcome))


def _report(*records: CheckRecord, engine: str = "embedded") -> ContractReport:
    return ContractReport(replace(HEADER, engine=engine), records)


MATRIX = _report(
    _record("unique_items", Outcome.DEVIATES, Outcome.IGNORED),
    _record("enum", Outcome.PASS),
    _record("items_false", Outcome.REFUSED),
    _record("max_items", Outcome.UNMEASURED),
)
OTHER = _report(_record("enum", Outcome.IGNORED), engine="vllm_api")


def _printed(report: ContractReport) -> str:
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=80))
    return stream.getvalue()


def test_the_json_report_has_the_verdicts_before_the_profile() -> None:
    """An accepted deviation is still ignored by the server."""
    assert to_object(MATRIX)["schema_features"] == {
        "unique_items": "ignored",
        "enum": "enforced",
        "items_false": "refused",
        "max_items": "unmeasured",
    }


def test_a_report_without_the_rules_has_no_table(report: ContractReport) -> None:
    """Neither as JSON nor as a page."""
    assert "schema_features" not in to_object(report)
    assert TITLE not in to_markdown(contract_page(report))
    assert TITLE not in to_markdown(matrix_page([report, report], every=True))


def test_markdown_and_html_have_the_table_in_the_order_of_the_catalogue() -> None:
    """Each row has the rule, the feature and the verdict."""
    page = contract_page(MATRIX)
    rows = [line for line in to_markdown(page).splitlines() if line.startswith("| ")]
    assert [row.replace("\\", "") for row in rows[-5:]] == [
        "| --- | --- | --- |",
        "| enum | enum | enforced |",
        "| items_false | items:false | refused |",
        "| max_items | maxItems | unmeasured |",
        "| unique_items | uniqueItems | ignored |",
    ]
    assert TITLE in to_html(page)


def test_a_terminal_shows_the_table_if_the_run_was_for_it(report: ContractReport) -> None:
    """In a run of the whole contract it would hide the verdicts."""
    assert TITLE in _printed(MATRIX)
    both = ContractReport(report.header, (*report.checks, *MATRIX.checks))
    assert TITLE not in _printed(both)
    assert TITLE in to_markdown(contract_page(both))


def test_several_reports_have_one_column_each() -> None:
    """A server that was not asked has a dash."""
    text = to_markdown(matrix_page([MATRIX, OTHER], every=True)).replace("\\", "")
    assert "| rule | feature | embedded | vllm_api |" in text
    assert "| enum | enum | enforced | ignored |" in text
    assert "| unique_items | uniqueItems | ignored | - |" in text


def test_a_report_of_an_older_version_is_read() -> None:
    """It has no verdicts from before the profile, so those of the profile count."""
    row = json.loads(json.dumps(MATRIX.checks[1].to_dict()))
    del row["observed"]
    assert CheckRecord.from_dict(row) == MATRIX.checks[1]
