"""The report on a terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from pytest_llmengine.reports import ContractReport, print_report
from pytest_llmengine.reports.contract_page import contract_page
from pytest_llmengine.reports.page import to_markdown

if TYPE_CHECKING:
    import pytest


def shown(report: ContractReport, *, colour: bool = False, width: int = 80) -> str:
    """The output on a terminal of that width."""
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=colour, color_system="standard" if colour else None
    )
    print_report(report, console)
    return stream.getvalue()


def lines(report: ContractReport) -> list[str]:
    """The same, without colour, line by line."""
    return [line.rstrip() for line in shown(report).splitlines()]


def test_starts_with_where_the_answers_come_from(report: ContractReport) -> None:
    """The first line says that it was a replay, with its source and date."""
    assert lines(report)[0] == report.header.describe


def test_matrix_counts_outcomes_by_group(report: ContractReport) -> None:
    """Each group has one row, with a count for every outcome."""
    rows = {line.split()[0]: line.split()[1:] for line in lines(report) if line}
    assert rows["group"] == [
        "pass",
        "fail",
        "refused",
        "ignored",
        "deviates",
        "unmeasured",
        "error",
    ]
    assert rows["chat.basic"] == ["2", "-", "-", "-", "-", "-", "-"]
    assert rows["chat.stream"] == ["-", "1", "-", "-", "1", "1", "-"]
    assert rows["tools"] == ["-", "-", "2", "-", "-", "-", "-"]
    assert rows["all"] == ["2", "1", "2", "1", "1", "1", "1"]


def test_failures_stand_apart_from_what_is_known(report: ContractReport) -> None:
    """Failures come first; deviations, refusals and unmeasured checks have headings."""
    text = shown(report)
    order = [
        "Not accepted (4)",
        "chat.stream.usage",
        "tools.choice",
        "struct.enum",
        "net.keepalive",
        "Known deviations (1)",
        "chat.stream.order",
        "Refused, and not claimed by the profile (1)",
        "tools.parallel",
        "Not measured (1)",
        "chat.stream.gap",
    ]
    places = [text.index(part, text.index("Not accepted")) for part in order]
    assert places == sorted(places)


def test_every_non_pass_has_its_level_and_reason(report: ContractReport) -> None:
    """The line of a check has outcome, id and level; its reason follows."""
    found = lines(report)
    at = found.index("  fail       chat.stream.usage  required")
    assert found[at + 1].strip() == "no usage in the last chunk"


def test_ends_with_the_sum(report: ContractReport) -> None:
    """The last line counts the checks, the outcomes and those that are not accepted."""
    assert shown(report, width=120).splitlines()[-1].rstrip() == (
        "9 checks: 2 pass, 1 fail, 2 refused, 1 ignored, 1 deviates, 1 unmeasured, 1 error; "
        "4 not accepted"
    )


def test_all_passed_is_short(clean_report: ContractReport) -> None:
    """If all pass, there are no lists and no empty columns."""
    assert lines(clean_report)[2:] == [
        "",
        "group       pass",
        "chat.basic     1",
        "all            1",
        "",
        "1 check: 1 pass; all accepted",
    ]


def test_no_check_at_all_is_not_a_success(report: ContractReport) -> None:
    """An empty run says that no check ran, and is not accepted."""
    empty = ContractReport(report.header, ())
    assert lines(empty)[-1] == "no check was run"
    assert not empty.accepted


def test_fits_80_columns_with_long_reasons(report: ContractReport) -> None:
    """A reason of any length is wrapped, and no line is wider than the terminal."""
    long = replace(report.checks[2], reason="a reason that goes on and on " * 20)
    assert max(len(line) for line in lines(ContractReport(report.header, (long,)))) <= 80


def test_overlong_reason_is_clipped_and_says_where_it_is_whole(report: ContractReport) -> None:
    """A long reason does not hide the next result; the report's files have it."""
    long = replace(report.checks[2], reason="word " * 200)
    found = lines(ContractReport(report.header, (long,)))
    assert sum("word" in line for line in found) <= 5
    assert "Reasons that end in ... are whole in the JSON and Markdown reports." in found
    assert not any("Reasons that end" in line for line in lines(report))


def test_reason_is_shown_as_it_is(report: ContractReport) -> None:
    """Square brackets are not markup, and escape codes of a server are not printed."""
    odd = replace(report.checks[2], reason="got [bold]x[/bold]\x1b[31m\r\nand more")
    text = shown(ContractReport(report.header, (odd,)))
    assert "got [bold]x[/bold]\\x1b[31m and more" in text
    assert "\x1b" not in text


def test_colour_only_where_it_is_wanted(report: ContractReport) -> None:
    """A terminal gets colour; a file gets the same text without it."""
    assert "\x1b[" in shown(report, colour=True)
    assert "\x1b[" not in shown(report)


def test_no_color_is_respected(report: ContractReport, monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR set a terminal gets no colour either."""
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in shown(report, colour=True)


def test_verdicts_with_one_reason_are_one_line(report: ContractReport) -> None:
    """From three on, the reason is printed once, with the ids by level and group."""
    ids = ("chat.stream.usage", "chat.stream.order", "tools.choice", "tools.parallel")
    failed = [replace(report.checks[2], id=id_, fact="f") for id_ in ids]
    failed[3] = replace(failed[3], level="optional", reason="another text")
    some = ContractReport(report.header, (*failed, *report.checks[6:]))
    at = lines(some).index("  fail       4 rules: no usage in the last chunk")
    below = "".join(line.strip() + " " for line in lines(some)[at + 1 : at + 3])
    assert below.startswith(
        "required: chat.stream.{usage,order} tools.choice; optional: tools.parallel "
    )
    assert (
        "- **fail** 4 rules (`required: chat.stream.{usage,order} tools.choice; optional: "
        "tools.parallel`): no usage in the last chunk"
    ) in to_markdown(contract_page(some))
    assert "4 rules" not in shown(ContractReport(report.header, tuple(failed[:2])))
