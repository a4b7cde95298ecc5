"""The contract suite under pytest always ends, and reports its results."""

from __future__ import annotations

import json
from itertools import chain, repeat
from typing import TYPE_CHECKING

import pytest

from llmengine.mock import Fault, MockServer, Script
from pytest_llmengine.contract.registry import select

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GROUP = "chat.basic"
CHECKS = [check.id for check in select(ids=[GROUP])]
KNOCKS = 3  # the requests before the first check: the models, a version and one token
SUITE = ("--pyargs", "pytest_llmengine.contract", "-k", GROUP, "--engine-report=report.json")


def outcomes(path: Path) -> list[str]:
    """The outcomes in a JSON report, in order."""
    return [row["outcome"] for row in json.loads(path.read_text("utf-8"))["checks"]]


@pytest.fixture
def hanging() -> Iterator[MockServer]:
    """A server that answers the first check and no other."""
    faults = chain(repeat(None, KNOCKS + 1), repeat(Fault(delay=60)))
    with MockServer() as server:
        server.play(Script(faults=faults))
        yield server


def test_run_stops_at_a_server_that_no_longer_answers(
    pytester: pytest.Pytester, hanging: MockServer
) -> None:
    """The tests after that are skipped, and the report lists them as not run."""
    pytester.makeini("[pytest]\nllmengine_answer_timeout = 0.1\nllmengine_max_unanswered = 2\n")

    result = pytester.runpytest_inprocess(*SUITE, f"--engine-url={hanging.base_url}", "-rs")

    left = len(CHECKS) - 3
    result.assert_outcomes(passed=1, failed=2, skipped=left)
    result.stdout.fnmatch_lines(
        [
            "error: POST /chat/completions: no answer within 0.1 s",
            "This is not a verdict on the engine.",
            f"Not run ({left})",
            "SKIPPED *the run stopped: 2 checks in a row got no answer*",
        ]
    )
    rows = outcomes(pytester.path / "report.json")
    assert rows == ["pass", "error", "error", *["not_run"] * left]


def test_run_whose_time_is_over_has_failed(pytester: pytest.Pytester) -> None:
    """A run whose checks were all skipped for lack of time does not end with 0."""
    with MockServer() as server:
        result = pytester.runpytest_inprocess(
            *SUITE, f"--engine-url={server.base_url}", "--engine-run-timeout=1e-9"
        )

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert set(outcomes(pytester.path / "report.json")) == {"error", "not_run"}


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_interrupt_keeps_what_was_found(pytester: pytest.Pytester, workers: tuple[str]) -> None:
    """The report of an interrupted run has the results, and lists what was not run."""
    pytester.syspathinsert()
    pytester.makepyfile(
        impatience=f"""
        def pytest_runtest_logreport(report):
            if report.when == "teardown" and "{CHECKS[1]}" in report.nodeid:
                raise KeyboardInterrupt
        """
    )
    with MockServer() as server:
        result = pytester.runpytest_subprocess(
            *SUITE, *workers, "-p", "impatience", f"--engine-url={server.base_url}"
        )

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"Not run ({len(CHECKS) - 2})", "*the run was interrupted*"])
    rows = outcomes(pytester.path / "report.json")
    assert rows == ["pass", "pass", *["not_run"] * (len(CHECKS) - 2)]


@pytest.mark.parametrize(
    "option", ["--engine-max-unanswered=0", "--engine-check-timeout=soon", "--engine-run-timeout=0"]
)
def test_an_invalid_limit_is_refused(pytester: pytest.Pytester, option: str) -> None:
    """No run may be without an end."""
    result = pytester.runpytest_inprocess(option)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{option.partition('=')[0]}*above 0*"])
