"""The HTML report, parsed as a browser does it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from llmengine.types.secrets import register
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.reports import CheckRecord, ContractReport, write_report
from pytest_llmengine.reports import page as pages
from pytest_llmengine.reports.contract_page import contract_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_llmengine.contract.runner import CheckResult
    from tests.reports.conftest import Page

    Read = Callable[[str], Page]


def to_html(report: ContractReport) -> str:
    """The report as a page for a browser."""
    return pages.to_html(contract_page(report))


def test_page_says_what_was_tested(report: ContractReport, read_page: Read) -> None:
    """Title, provenance, the sum and the matrix."""
    text = read_page(to_html(report)).texts[""]

    assert "Contract report: embedded" in text
    assert "replayed from llama.cpp b11549 (smollm2-135m), recorded 2026-11-21" in text
    assert "9 checks: 2 pass, 1 fail, 2 refused" in text
    assert [s for s in ("Not accepted (4)", "Known deviations (1)") if s not in text] == []


def test_each_failure_has_its_exchange(report: ContractReport, read_page: Read) -> None:
    """Request, status, headers and answer are with the rule, open if it is not accepted."""
    page = read_page(to_html(report))

    failed = [c for c in report.checks if c.outcome is not Outcome.PASS]
    assert set(page.pres) == {c.id for c in failed}
    assert page.open == {c.id for c in failed if not c.accepted}
    for record in failed:
        said = page.texts[record.id]
        assert record.reason in said
        assert "POST /chat/completions" in said
        assert "400, 0.012 s" in said
        asked, headers, answered = page.pres[record.id]
        assert asked == '{"model": "smollm2-135m"}'
        assert "content-type: application/json" in headers
        assert answered == '{"error": {"message": "no tools here"}}'


def test_nothing_is_fetched(report: ContractReport, read_page: Read) -> None:
    """No tag and no attribute refers to another file, and the page forbids it too."""
    html = to_html(report)
    page = read_page(html)

    assert page.fetches == []
    assert "url(" not in html
    assert "@import" not in html
    assert any("default-src 'none'" in (given.get("content") or "") for _, given in page.tags)


@pytest.mark.parametrize("field", ["reason", "request_body", "response_body", "header"])
def test_what_servers_say_is_text(report: ContractReport, field: str, read_page: Read) -> None:
    """Servers cannot put a tag into any part of the page."""
    odd = "</pre><script>alert('x')</script><img src=http://a/b> & \x00\x1b[31m"
    record = report.checks[2]
    exchange = dict(record.exchanges[0])
    if field == "reason":
        record = replace(record, reason=odd)
    elif field == "header":
        exchange["response_headers"] = {"x-<b>": odd}
    else:
        exchange[field] = odd
    record = replace(record, exchanges=(exchange,))

    html = to_html(ContractReport(report.header, (record,)))

    page = read_page(html)
    assert page.fetches == []
    assert (
        "<script>alert('x')</script><img src=http://a/b> & \\x00\\x1b[31m" in page.texts[record.id]
    )
    assert "\x00" not in html
    assert "\x1b" not in html


def test_keys_are_not_in_the_page(
    results: list[CheckResult], report: ContractReport, tmp_path: Path, read_page: Read
) -> None:
    """A key that a server repeats is masked in every place, and so are cookies."""
    key = "sk-very-secret-1&2"
    register(key)
    failed = results[2]
    exchange = replace(
        failed.exchanges[0],
        request_body=f'{{"key": "{key}"}}',
        response_body=f"your key is {key}",
        response_headers={"x-key": key, "set-cookie": "session=1"},
    )
    with_key = replace(failed, reason=f"said {key}", exchanges=(exchange,))
    header = replace(report.header, describe=f"live at http://a/?key={key}")
    path = tmp_path / "report.html"

    write_report(ContractReport(header, (CheckRecord.of(with_key),)), path)

    html = path.read_text("utf-8")
    assert "very-secret" not in html
    assert "session=1" not in html
    assert read_page(html).texts[with_key.check.id].count("[redacted]") == 5


def test_rule_of_the_catalogue_is_explained(report: ContractReport, read_page: Read) -> None:
    """A known check is explained by its rule; an unknown one is not."""
    known = replace(report.checks[2], id="chat.basic.required_fields")

    page = read_page(to_html(ContractReport(report.header, (known,))))

    assert "A chat completion has id, object, created, model and choices." in page.texts[known.id]


def test_clean_run_is_green(clean_report: ContractReport, read_page: Read) -> None:
    """No details are open, and the page says that all passed."""
    page = read_page(to_html(clean_report))

    assert page.open == set()
    assert ("p", {"class": "verdict good"}) in page.tags
