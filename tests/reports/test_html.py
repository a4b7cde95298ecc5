"""The report for a browser, read as a browser reads it."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from llmengine.values.secrets import register
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.reports import CheckRecord, Report, write_report
from pytest_llmengine.reports.html import to_html

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_llmengine.contract.runner import CheckResult

FETCHING = {
    "link",
    "script",
    "img",
    "iframe",
    "object",
    "embed",
    "audio",
    "video",
    "source",
    "base",
}


class Page(HTMLParser):
    """A page in parts: tags, text by the ids of the details that it stands in, and cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {"": ""}
        self.pres: dict[str, list[str]] = {}
        self.open: set[str] = set()
        self._within: list[str] = [""]
        self._pre = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Follow the details, and keep every tag."""
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag == "details":
            self._within.append(given.get("id") or self._within[-1])
            self.texts.setdefault(self._within[-1], "")
            if "open" in given:
                self.open.add(self._within[-1])
        if tag == "pre":
            self._pre = True
            self.pres.setdefault(self._within[-1], []).append("")

    def handle_endtag(self, tag: str) -> None:
        """Leave the details."""
        if tag == "details":
            self._within.pop()
        if tag == "pre":
            self._pre = False

    def handle_data(self, data: str) -> None:
        """Text, as a person sees it."""
        self.texts[self._within[-1]] += data
        if self._pre:
            self.pres[self._within[-1]][-1] += data


def test_page_says_what_was_tested(report: Report) -> None:
    """Title, provenance, the sum and the matrix."""
    text = Page(to_html(report)).texts[""]

    assert "Contract report: embedded" in text
    assert "replayed from llama.cpp b11549 (smollm2-135m), recorded 2026-11-21" in text
    assert "9 checks: 2 pass, 1 fail, 2 refused" in text
    assert [s for s in ("Not accepted (4)", "Known deviations (1)") if s not in text] == []


def test_each_failure_has_its_exchange(report: Report) -> None:
    """Request, status, headers and answer stand with the rule, opened where it is not accepted."""
    page = Page(to_html(report))

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


def test_nothing_is_fetched(report: Report) -> None:
    """No tag and no attribute points out of the file, and the page forbids it to the browser."""
    html = to_html(report)
    page = Page(html)

    assert FETCHING.isdisjoint(tag for tag, _ in page.tags)
    assert not any(name in given for _, given in page.tags for name in ("src", "href", "style"))
    assert "url(" not in html
    assert "@import" not in html
    assert any("default-src 'none'" in (given.get("content") or "") for _, given in page.tags)


@pytest.mark.parametrize("field", ["reason", "request_body", "response_body", "header"])
def test_what_servers_say_is_text(report: Report, field: str) -> None:
    """No server can put a tag into the page, wherever its words stand."""
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

    html = to_html(Report(report.header, (record,)))

    page = Page(html)
    assert FETCHING.isdisjoint(tag for tag, _ in page.tags)
    assert (
        "<script>alert('x')</script><img src=http://a/b> & \\x00\\x1b[31m" in page.texts[record.id]
    )
    assert "\x00" not in html
    assert "\x1b" not in html


def test_keys_are_not_in_the_page(
    results: list[CheckResult], report: Report, tmp_path: Path
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
    told = replace(failed, reason=f"said {key}", exchanges=(exchange,))
    header = replace(report.header, describe=f"live at http://a/?key={key}")
    path = tmp_path / "report.html"

    write_report(Report(header, (CheckRecord.of(told),)), path)

    html = path.read_text("utf-8")
    assert "very-secret" not in html
    assert "session=1" not in html
    assert Page(html).texts[told.check.id].count("[redacted]") == 5


def test_rule_of_the_catalogue_is_told(report: Report) -> None:
    """A check that this version knows is explained by its rule; an unknown one is not."""
    known = replace(report.checks[2], id="chat.basic.required_fields")

    page = Page(to_html(Report(report.header, (known,))))

    assert "A chat completion has id, object, created, model and choices." in page.texts[known.id]


def test_clean_run_is_green(clean_report: Report) -> None:
    """Nothing to open, and the verdict says so."""
    page = Page(to_html(clean_report))

    assert page.open == set()
    assert ("p", {"class": "verdict good"}) in page.tags
