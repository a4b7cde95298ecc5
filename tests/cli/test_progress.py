"""What is printed while checks run."""

from __future__ import annotations

import io

from rich.console import Console

from pytest_llmengine.cli.progress import run_all
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
