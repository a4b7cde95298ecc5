"""What is printed while checks run."""

from __future__ import annotations

import io

from rich.console import Console

from pytest_llmengine.cli.progress import count_progress, run_all
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.registry import Check, select
from pytest_llmengine.reports import CheckRecord


def record(check: Check) -> CheckRecord:
    """A pass, without a server."""
    return CheckRecord(
        check.id, check.group, "required", "core", Outcome.PASS, "", accepted=True, seconds=0.0
    )


def shown(*, terminal: bool) -> tuple[str, list[CheckRecord]]:
    """The printed text, and the records."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=80, legacy_windows=False)
    records = list(run_all(select(ids=["chat.basic"]), record, console))
    return stream.getvalue(), records


def test_terminal_gets_a_bar_that_goes_away() -> None:
    """The bar counts the checks and names the running one; it leaves no line."""
    text, records = shown(terminal=True)
    assert f"{len(records)}/{len(records)}" in text
    assert records[-1].id in text
    assert text.endswith("\x1b[2K")


def test_pipe_gets_plain_lines() -> None:
    """Without a terminal there is one line per group, without control codes."""
    text, records = shown(terminal=False)
    assert text == f"chat.basic: {len(records)} pass\n"


def test_a_count_on_a_terminal_is_a_bar_that_goes_away() -> None:
    """The bar has the number of what is done, and leaves no line."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, legacy_windows=False)
    with count_progress("mutants", console) as on_counted:
        on_counted(7, 20)
    assert "7/20" in stream.getvalue()
    assert stream.getvalue().endswith("\x1b[2K")


def test_a_count_in_a_pipe_is_a_line_per_tenth() -> None:
    """A long run prints ten lines, and a short one a line per step."""
    stream = io.StringIO()
    with count_progress("mutants", Console(file=stream, force_terminal=False)) as on_counted:
        for done in range(1, 41):
            on_counted(done, 40)
    lines = stream.getvalue().splitlines()
    assert lines == [f"{done} of 40 mutants" for done in range(4, 41, 4)]
