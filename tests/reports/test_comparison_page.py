"""Several reports side by side, and the changes between two."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from llmengine import ConfigError
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.reports import CheckRecord, ContractReport, write_report
from pytest_llmengine.reports.comparison_page import (
    ChangeKind,
    changes,
    changes_page,
    labels,
    matrix_page,
)
from pytest_llmengine.reports.json import read_report, to_json, to_object
from pytest_llmengine.reports.page import print_page, to_html, to_markdown, write_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_llmengine.reports.page import Page


def _with(report: ContractReport, **checks: Outcome | None) -> ContractReport:
    """The report with other outcomes, accepted if they pass; None removes a check."""
    changed = {name.replace("__", "."): outcome for name, outcome in checks.items()}
    records = []
    for record in report.checks:
        outcome = changed.get(record.id, record.outcome)
        if record.id not in changed:
            records.append(record)
        elif outcome is not None:
            accepted = outcome is Outcome.PASS
            records.append(replace(record, outcome=outcome, accepted=accepted, reason="so"))
    return ContractReport(report.header, tuple(records))


def _named(report: ContractReport, **fields: Any) -> ContractReport:
    return ContractReport(replace(report.header, **fields), report.checks)


def _printed(page: Page) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_page(page, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]  # a StringIO


# ---- reading


def test_report_is_read_back(report: ContractReport, tmp_path: Path) -> None:
    """A report that was written as JSON is the same report again."""
    path = tmp_path / "a.json"
    write_report(report, path)

    assert read_report(path) == report


def test_later_fields_are_passed_over(report: ContractReport, tmp_path: Path) -> None:
    """A report of a later version with more fields can be read."""
    data = to_object(report)
    data["new"] = data["provenance"]["new"] = data["checks"][0]["new"] = 1
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data), "utf-8")

    assert read_report(path) == report


def test_report_without_the_name_of_the_server_is_read(
    report: ContractReport, tmp_path: Path
) -> None:
    """Reports of older versions have no name; the engine stands for it."""
    data = to_object(report)
    del data["provenance"]["name"]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data), "utf-8")

    assert read_report(path).header.label == "embedded"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "a.json: not a JSON report: "),
        ("[]", "a.json: not a report of the contract; write one with"),
        ('{"tests": []}', "a.json: not a report of the contract; write one with"),
        ('{"schema_version": 99}', "a.json: its schema_version is 99, and this llmengine reads 1"),
        ('{"schema_version": 1}', "a.json: not a complete report: provenance: Field required"),
        ('{"schema_version": 1, "checks": [{"outcome": "pass"}]}', "a.json: not a complete report"),
    ],
)
def test_file_that_is_not_a_report_is_refused(tmp_path: Path, content: str, said: str) -> None:
    """One line names the file and what to do."""
    path = tmp_path / "a.json"
    path.write_text(content, "utf-8")

    with pytest.raises(ConfigError, match=said):
        read_report(path)


# ---- the matrix


def test_matrix_has_rows_of_rules_and_columns_of_servers(report: ContractReport) -> None:
    """Each cell has the outcome of its rule on its server; a dash means not run."""
    other = _with(
        _named(report, engine="vllm_api"), chat__stream__usage=Outcome.PASS, tools__choice=None
    )

    page = matrix_page([report, other], every=True)

    rules = page.blocks[1]
    assert rules.heads == ("rule", "level", "embedded", "vllm_api")
    cells = {row[0].text: [cell.text for cell in row[1:]] for row in rules.rows}
    assert len(cells) == len(report.checks)
    assert cells["chat.stream.usage"] == ["required", "fail !", "pass"]
    assert cells["chat.stream.order"] == ["required", "deviates", "deviates"]
    assert cells["tools.choice"] == ["required", "refused !", "-"]
    assert "9 rules, 2 reports: 2 pass wherever they were run" in page.summary


def test_terminal_is_spared_what_all_pass(report: ContractReport) -> None:
    """By default, rules that pass on all servers are left out."""
    other = _with(report, chat__basic__id=None)

    page = matrix_page([report, other], every=False)

    ids = [row[0].text for row in page.blocks[1].rows]
    assert page.blocks[1].title == "Rules that some server does not pass (7 of 9)"
    assert "chat.basic.id" not in ids
    assert len(ids) == 7


def test_servers_are_counted(report: ContractReport, clean_report: ContractReport) -> None:
    """The first table has one row per report."""
    page = matrix_page([report, clean_report], every=True)

    servers = page.blocks[0]
    assert servers.heads[:4] == ("server", "checks", "pass", "fail")
    assert [[cell.text for cell in row][-1] for row in servers.rows] == ["4", "-"]
    assert [[cell.text for cell in row][1:4] for row in servers.rows] == [
        ["9", "2", "1"],
        ["1", "1", "-"],
    ]


def test_rules_stand_in_the_order_of_the_catalogue(report: ContractReport) -> None:
    """The order of the reports does not matter; removed rules come last."""
    ids = ["chat.stop.max4", "gone.rule", "chat.basic.required_fields"]
    mixed = ContractReport(report.header, tuple(replace(report.checks[0], id=one) for one in ids))

    rows = matrix_page([mixed], every=True).blocks[1].rows

    assert [row[0].text for row in rows] == [ids[2], ids[0], ids[1]]


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ([{}, {"engine": "mock"}], ["embedded", "mock"]),
        ([{"name": "llama.cpp"}, {"name": "mine"}], ["llama.cpp", "mine"]),
        ([{}, {"version": "b12000"}], ["embedded b11549", "embedded b12000"]),
        ([{"version": None}, {}], ["embedded smollm2-135m", "embedded b11549"]),
        ([{}, {}], ["embedded b11549 (1)", "embedded b11549 (2)"]),
    ],
)
def test_every_column_has_its_own_name(
    report: ContractReport, headers: list[dict[str, Any]], names: list[str]
) -> None:
    """The names are as short as possible."""
    assert labels([_named(report, **fields) for fields in headers]) == names


# ---- changes


def test_changes_are_sorted_by_what_they_mean(report: ContractReport) -> None:
    """Worse, better, other, new and gone; unchanged rules are not listed."""
    old = _with(report, tools__parallel=None)
    new = _with(
        report,
        chat__basic__id=Outcome.FAIL,
        chat__stream__usage=Outcome.PASS,
        struct__enum=Outcome.FAIL,
        net__keepalive=None,
    )

    found = changes(old, new)

    assert {kind: [change.id for change in listed] for kind, listed in found.items()} == {
        ChangeKind.WORSE: ["chat.basic.id"],
        ChangeKind.BETTER: ["chat.stream.usage"],
        ChangeKind.OTHER: ["struct.enum"],
        ChangeKind.NEW: ["tools.parallel"],
        ChangeKind.GONE: ["net.keepalive"],
    }


def test_page_of_changes_shows_before_after_and_why(report: ContractReport) -> None:
    """The reason is the new one, or the old one for a rule that passes now."""
    new = _with(report, chat__basic__id=Outcome.FAIL, chat__stream__usage=Outcome.PASS)
    mended = replace(
        new, checks=tuple(replace(c, reason="") if c.accepted else c for c in new.checks)
    )

    page = changes_page(report, mended)

    assert page.good is False
    assert page.summary == "1 no longer accepted, 1 accepted now"
    rows = [[cell.text for cell in row] for table in page.blocks for row in table.rows]
    assert rows == [
        ["chat.basic.id", "required", "pass", "fail !", "so"],
        ["chat.stream.usage", "required", "fail !", "pass", "no usage in the last chunk"],
    ]


def test_nothing_changed(report: ContractReport) -> None:
    """Two equal reports give one sentence and no table."""
    page = changes_page(report, report)

    assert (page.good, page.summary, page.blocks) == (True, "nothing changed", ())


def test_page_of_changes_says_what_else_differs(report: ContractReport) -> None:
    """A change of model or tier may be the reason, so it is shown."""
    lines = changes_page(report, _named(report, model="other", tier="smoke")).lines

    assert "model differs: smollm2-135m, then other" in lines
    assert "tier differs: core, then smoke" in lines


# ---- forms


@pytest.fixture(params=["matrix", "changes"])
def page(request: pytest.FixtureRequest, report: ContractReport) -> Page:
    """Either page, with a rule whose reason and server have many special characters."""
    odd = "<b>|x|</b>\n`c` \x1b[31m"
    records = (replace(report.checks[0], outcome=Outcome.FAIL, accepted=False, reason=odd),)
    worse = ContractReport(replace(report.header, engine="<i>a|b"), records + report.checks[1:])
    if request.param == "matrix":
        return matrix_page([report, worse], every=True)
    return changes_page(report, worse)


def test_terminal_prints_every_cell(page: Page) -> None:
    """No control character of a server is printed."""
    printed = _printed(page)

    assert "chat.basic.id" in printed
    assert "fail !" in printed
    assert "\x1b" not in printed
    assert page.summary in " ".join(printed.split())


def test_markdown_keeps_its_tables(page: Page) -> None:
    """Texts of servers cannot end a cell or make a tag."""
    text = to_markdown(page)

    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == len(page.blocks)
    for lines in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines.splitlines()}) == 1
    assert not re.search(r"(?<!\\)<[bi]>", text)


def test_page_fetches_nothing_and_escapes(page: Page, read_page: Callable[[str], Any]) -> None:
    """The page of one report promises the same."""
    html = to_html(page)

    read = read_page(html)
    assert read.fetches == []
    assert not {"b", "i"} & {tag for tag, _ in read.tags}
    assert "<i>a|b" in read.text
    assert "fail !" in read.text
    assert ("td", {"class": "fail"}) in read.tags


@pytest.mark.parametrize("name", ["a.md", "a.html"])
def test_suffix_chooses_the_form(page: Page, tmp_path: Path, name: str) -> None:
    """Markdown or a page."""
    write_page(page, tmp_path / name)

    expected = {"a.md": to_markdown, "a.html": to_html}[name](page)
    assert (tmp_path / name).read_text("utf-8") == expected


def test_records_of_json_have_their_outcomes(report: ContractReport) -> None:
    """Records that were read are like those of a run."""
    row = json.loads(to_json(report))["checks"][2]

    assert CheckRecord.from_dict(row) == report.checks[2]
