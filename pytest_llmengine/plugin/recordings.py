"""Says which recordings a replay left unplayed, so that none grows old unseen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmengine.plugin.pool import Pool

# A test report's attribute of plain values: pytest-xdist carries it from worker to controller.
_ATTRIBUTE = "llmengine_played"

_DEEPEST = 2  # a check's cassette lies in the engine's folder, or in one of a client library there


def attach(report: pytest.TestReport, pool: Pool) -> None:
    """Put on the report of a test's end which cassettes it played, and what it left in them."""
    if report.when == "teardown":
        played = [[str(p.folder), str(p.path), list(p.unused)] for p in pool.take_played()]
        setattr(report, _ATTRIBUTE, played)


class Recordings:
    """The plugin that gathers what was played, in the process that prints the summary."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._folders: set[Path] = set()
        self._played: set[Path] = set()
        self._left: dict[Path, list[str]] = {}
        self._stopped: set[str] = set()
        self._partial = False

    def pytest_deselected(self) -> None:
        """Note that not every test runs."""
        self._partial = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test played; one that failed or was skipped may have stopped early."""
        if report.outcome != "passed":
            self._stopped.add(report.nodeid)
        played = getattr(report, _ATTRIBUTE, None)
        if played is None:
            return
        stopped = report.nodeid in self._stopped
        self._partial = self._partial or (stopped and not played)
        for folder, name, unused in played:
            self._folders.add(Path(folder))
            self._played.add(Path(name))
            if unused and not stopped:
                self._left[Path(name)] = unused

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """List recorded requests that were not made, and cassettes that no test plays."""
        lines = [*self._unmade(), *self._outdated()]
        if lines:
            from llmengine.types.printable import printable  # noqa: PLC0415 - unused runs stay light

            terminalreporter.section("LLM engine recordings not used")
            for line in lines:
                terminalreporter.write_line(printable(line))

    def _unmade(self) -> Iterator[str]:
        for path, requests in sorted(self._left.items()):
            for request in requests:
                yield f"{path}: {request} is recorded and was not made"

    def _outdated(self) -> Iterator[str]:
        """The files that no test played; only a run of all tests can know them.

        Those of the contract's checks are in use whatever part of the contract was run.
        """
        narrowed = self._config.args_source is pytest.Config.ArgsSource.ARGS
        if not self._played or self._partial or narrowed:
            return
        from pytest_llmengine.contract.registry import catalogue  # noqa: PLC0415 - unused runs stay light
        from pytest_llmengine.recording import unused_cassettes  # noqa: PLC0415 - the same

        checks = catalogue()
        for folder in sorted(self._folders):
            for path in unused_cassettes(folder, self._played):
                if path.stem not in checks or len(path.relative_to(folder).parts) > _DEEPEST:
                    yield f"{path} was played by no test: delete it, or record it anew"
