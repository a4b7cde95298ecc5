"""The check of a test's engine against a baseline, and its line in pytest's summary.

With pytest-xdist, the lines travel from the workers to the controller on the reports of tests.
"""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

import pytest

from pytest_llmengine.plugin.missing_engine import cannot_open

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_llmengine.drift import DriftReport
    from pytest_llmengine.plugin.pool import Pool

# An attribute of test reports; it holds plain values, so pytest-xdist sends it to the controller.
_ATTRIBUTE = "llmengine_drift"
_WIDTH = 100

_lines = pytest.StashKey[list[str]]()
_checked = pytest.StashKey[dict[tuple["Path", str, float], "DriftReport"]]()


class DriftChecker:
    """Checks the test's engine: ``drift_baseline("baselines/provider.jsonl.gz")``.

    The path is relative to the rootdir. The test fails with the report unless the engine is the
    same; it is skipped if the answers are recorded ones. Tests that check the same engine against
    the same file share one check.
    """

    def __init__(self, item: pytest.Item, pool: Pool, engine: str) -> None:
        self._item = item
        self._pool = pool
        self._engine = engine

    def __call__(self, file: str | Path, *, alpha: float | None = None) -> DriftReport:
        """The report on the engine, which is the same; ``alpha`` is the false-alarm rate."""
        __tracebackhide__ = True
        from pytest_llmengine.drift import DriftVerdict  # noqa: PLC0415 - imported when used
        from pytest_llmengine.drift.report import ALPHA  # noqa: PLC0415 - the same

        known = self._item.config.stash.setdefault(_checked, {})
        key = self._item.config.rootpath / file, self._engine, ALPHA if alpha is None else alpha
        if key not in known:
            known[key] = self._check(key[0], key[2])
        report = known[key]
        self._note(f"{self._engine} and {file}: {report.verdict}, {report.reason}")
        if report.verdict is not DriftVerdict.SAME:
            pytest.fail(_printed(report), pytrace=False)
        return report

    def _check(self, path: Path, alpha: float) -> DriftReport:
        __tracebackhide__ = True
        from pytest_llmengine.drift import DriftError, load  # noqa: PLC0415 - imported when used
        from pytest_llmengine.drift.live import check  # noqa: PLC0415 - the same
        from pytest_llmengine.targets import Mode, TargetError  # noqa: PLC0415 - the same

        try:
            session = self._pool.open(self._engine)
            if session.mode not in {Mode.LIVE, Mode.DOCKER}:
                reason = f"the answers of {self._engine} are not live (mode {session.mode})"
                self._note(f"{self._engine} and {path.name}: not checked, {reason}")
                pytest.skip(f"{reason}; a drift check needs --engine-mode=live")
            return check(session, load(path), alpha=alpha)
        except TargetError as error:
            raise cannot_open(self._item.config, error) from None
        except DriftError as error:
            pytest.fail(str(error), pytrace=False)

    def _note(self, line: str) -> None:
        self._item.stash.setdefault(_lines, []).append(line)


def _printed(report: DriftReport) -> str:
    from pytest_llmengine.drift.render import print_report  # noqa: PLC0415 - imported when used
    from pytest_llmengine.reports.console import SafeConsole  # noqa: PLC0415 - the same

    text = StringIO()
    print_report(report, SafeConsole(file=text, width=_WIDTH))
    return text.getvalue()


def attach_drift(item: pytest.Item, report: pytest.TestReport) -> None:
    """Add the lines of a test's checks to the report of its call."""
    if report.when == "call" and _lines in item.stash:
        setattr(report, _ATTRIBUTE, item.stash[_lines])


class DriftSummary:
    """The plugin that prints the checks, in the process that prints the summary."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the checks of a test."""
        self._lines |= dict.fromkeys(getattr(report, _ATTRIBUTE, ()))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print one line per engine and baseline."""
        if not self._lines:
            return
        from llmengine.types.printable import printable  # noqa: PLC0415 - imported when used
        from llmengine.types.secrets import scrub  # noqa: PLC0415 - the same

        terminalreporter.section("LLM engine drift")
        for line in self._lines:
            terminalreporter.write_line(printable(scrub(line)))
