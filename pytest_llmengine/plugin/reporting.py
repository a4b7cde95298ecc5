"""What the plugin adds to pytest's reports: verdicts, unused recordings, and the removal of keys.

With pytest-xdist, tests run in workers and the summary is printed by the controller. Verdicts and
played cassettes travel there as plain values on the reports of tests.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest._code.code import TerminalRepr

from pytest_llmengine.plugin.options import PLAYED, chosen
from pytest_llmengine.plugin.verification import attach_comparisons

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_llmengine.contract.runner import CheckResult
    from pytest_llmengine.plugin.pool import Pool
    from pytest_llmengine.reports import CheckRecord, ContractReport
    from pytest_llmengine.targets import Session
    from pytest_llmengine.targets.settings import Settings


# An attribute of test reports; it holds plain values, so pytest-xdist sends it to the controller.
_ATTRIBUTE = "llmengine_verdict"

_verdict = pytest.StashKey[dict[str, Any]]()


def keep(item: pytest.Item, result: CheckResult, session: Session, settings: Settings) -> None:
    """Keep a verdict for the test's report; JUnit gets the check's id as a property."""
    from pytest_llmengine.reports import CheckRecord  # noqa: PLC0415 - imported when used
    from pytest_llmengine.reports.model import header_of  # noqa: PLC0415 - the same

    item.user_properties.append(("contract_id", result.check.id))
    item.stash[_verdict] = {
        "header": asdict(header_of(session, settings.tier)),
        "record": CheckRecord.of(result).to_dict(),
    }


def attach(item: pytest.Item, report: pytest.TestReport) -> None:
    """Add the test's verdict, if it has one, to the report of its call."""
    if report.when == "call" and _verdict in item.stash:
        setattr(report, _ATTRIBUTE, item.stash[_verdict])


class Verdicts:
    """The plugin that collects verdicts, in the process that prints the summary."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._headers: dict[str, dict[str, Any]] = {}
        self._records: dict[str, dict[str, dict[str, Any]]] = {}
        self._collected: dict[str, None] = {}
        self._cut_short = False

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Record which tests are to be run."""
        self._collected |= dict.fromkeys(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Record which tests the workers of pytest-xdist are to run."""
        self._collected |= dict.fromkeys(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the verdict of a test; if the test is run again, the last verdict counts."""
        self._collected.pop(report.nodeid, None)
        verdict = getattr(report, _ATTRIBUTE, None)
        if verdict is None:
            return
        engine = verdict["header"]["engine"]
        self._headers.setdefault(engine, verdict["header"])
        self._records.setdefault(engine, {})[verdict["record"]["id"]] = verdict["record"]

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fail a run in which a check was not run; its test is only skipped."""
        self._cut_short = bool(
            exitstatus == pytest.ExitCode.INTERRUPTED or session.shouldstop or session.shouldfail
        )
        rows = (row for records in self._records.values() for row in records.values())
        if session.exitstatus == pytest.ExitCode.OK and any(
            r["outcome"] == "not_run" for r in rows
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the report of each engine, and write the report file if one was requested."""
        for report in self._reports():
            terminalreporter.section(f"LLM engine contract: {report.header.engine}")
            terminalreporter.write(_rendered(report, terminalreporter))
        if self._path is not None:
            terminalreporter.section("LLM engine report")
            for line in self._write(self._path):
                terminalreporter.write_line(line)

    def _reports(self) -> Iterator[ContractReport]:
        if not self._records:
            return
        from pytest_llmengine.contract.registry import catalogue  # noqa: PLC0415 - imported when used
        from pytest_llmengine.reports import CheckRecord, ContractReport, Header  # noqa: PLC0415 - the same

        order = {id_: place for place, id_ in enumerate(catalogue())}
        for engine, records in self._records.items():
            rows = [CheckRecord.from_dict(row) for row in records.values()]
            rows += self._checks_not_run(engine)
            rows.sort(key=lambda row: order.get(row.id, len(order)))
            yield ContractReport(Header(**self._headers[engine]), tuple(rows))

    def _checks_not_run(self, engine: str) -> Iterator[CheckRecord]:
        """The checks that were not run because the run was cut short."""
        from pytest_llmengine.contract.outcomes import Outcome  # noqa: PLC0415 - imported when used
        from pytest_llmengine.contract.registry import catalogue  # noqa: PLC0415 - the same
        from pytest_llmengine.contract.runner import not_run  # noqa: PLC0415 - the same
        from pytest_llmengine.reports import CheckRecord  # noqa: PLC0415 - the same

        ends = tuple(self._collected) if self._cut_short else ()
        for check in catalogue().values():
            if any(nodeid.endswith(f"[{engine}-{check.id}]") for nodeid in ends):
                yield CheckRecord.of(not_run(check, Outcome.NOT_RUN, "the run was interrupted"))

    def _write(self, path: Path) -> Iterator[str]:
        """Write the report, one file per engine if there are several; yields a line for each."""
        from llmengine.types.file_names import file_name  # noqa: PLC0415 - imported when used
        from pytest_llmengine.reports.files import with_engine, write_report  # noqa: PLC0415 - the same

        reports = list(self._reports())
        if not reports:
            yield f"nothing to write to {path}: no check of the contract was run"
        for report in reports:
            alone = len(reports) == 1
            engine = file_name(report.header.engine)
            file = path if alone else with_engine(path, engine)
            write_report(report, file)
            yield f"written to {file}"


def _rendered(report: ContractReport, terminal: pytest.TerminalReporter) -> str:
    from pytest_llmengine.reports import print_report  # noqa: PLC0415 - the same
    from pytest_llmengine.reports.console import (  # noqa: PLC0415 - imported when used
        SafeConsole,
        report_width,
    )

    text = StringIO()
    writer = terminal.config.get_terminal_writer()
    console = SafeConsole(
        file=text,
        width=report_width(writer.fullwidth, is_terminal=bool(terminal.isatty)),
        force_terminal=writer.hasmarkup,
        color_system="standard" if writer.hasmarkup else None,
        highlight=False,
        markup=False,
    )
    print_report(report, console)
    return text.getvalue()


# An attribute of test reports; it holds plain values, so pytest-xdist sends it to the controller.
_RECORDING = "llmengine_played"

_DEEPEST = 2  # a check's cassette is in the engine's folder, or in a subfolder of a client library


def attach_recordings(report: pytest.TestReport, pool: Pool) -> None:
    """Add the cassettes that a test played, with their unused requests, to its teardown report."""
    if report.when == "teardown":
        taken = pool.take_played()
        played = [[str(p.folder), str(p.path), list(p.unused)] for p in taken]
        setattr(report, _RECORDING, played)
        attach_comparisons(report, [one for p in taken for one in p.comparisons])


class Recordings:
    """The plugin that lists unused recordings, so that outdated ones are noticed.

    It works in the process that prints the summary.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._folders: set[Path] = set()
        self._played: set[Path] = set()
        self._unused: dict[Path, list[str]] = {}
        self._stopped: set[str] = set()
        self._partial = False

    def pytest_deselected(self) -> None:
        """Record that not every test runs."""
        self._partial = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect what a test played; a test that failed or was skipped may have stopped early."""
        if report.outcome != "passed":
            self._stopped.add(report.nodeid)
        played = getattr(report, _RECORDING, None)
        if played is None:
            return
        stopped = report.nodeid in self._stopped
        self._partial = self._partial or (stopped and not played)
        for folder, name, unused in played:
            self._folders.add(Path(folder))
            self._played.add(Path(name))
            if unused and not stopped:
                self._unused[Path(name)] = unused

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """List recorded requests that were not made, and cassettes that no test played."""
        if (file := chosen(self._config, PLAYED)) is not None:
            self._write_played(file)
        lines = [*self._unused_requests(), *self._unused_cassettes()]
        if lines:
            from llmengine.types.printable import printable  # noqa: PLC0415 - imported when used

            terminalreporter.section("LLM engine recordings not used")
            for line in lines:
                terminalreporter.write_line(printable(line))

    def _write_played(self, file: Path) -> None:
        """Write what was played for ``llmengine cassettes lint --played``."""
        played = {str(path): self._unused.get(path, []) for path in sorted(self._played)}
        written = {"whole_run": self._of_all_tests, "played": played}
        file.write_text(json.dumps(written, indent=2), encoding="utf-8")

    @property
    def _of_all_tests(self) -> bool:
        """Whether every test of the project was run to its end."""
        return not self._partial and self._config.args_source is not pytest.Config.ArgsSource.ARGS

    def _unused_requests(self) -> Iterator[str]:
        for path, requests in sorted(self._unused.items()):
            for request in requests:
                yield f"{path}: {request} is recorded but was not made"

    def _unused_cassettes(self) -> Iterator[str]:
        """The cassettes that no test played; only a run of all tests can tell.

        Cassettes of the contract's checks count as used, whatever part of the contract was run.
        """
        if not self._played or not self._of_all_tests:
            return
        from pytest_llmengine.contract.registry import catalogue  # noqa: PLC0415 - imported when used
        from pytest_llmengine.recording import unused_cassettes  # noqa: PLC0415 - the same

        checks = catalogue()
        for folder in sorted(self._folders):
            for path in unused_cassettes(folder, self._played):
                if path.stem not in checks or len(path.relative_to(folder).parts) > _DEEPEST:
                    yield f"{path} was not played by any test; delete it, or record it again"


# An attribute of test reports: where the answers of engines come from, by the engine's name.
_SOURCES = "llmengine_sources"


def attach_sources(report: pytest.TestReport, sources: dict[str, str]) -> None:
    """Add to a report where the answers of a worker's new engines come from."""
    if sources:
        setattr(report, _SOURCES, sources)


class Sources:
    """The plugin that prints where answers come from, if tests run in workers of pytest-xdist.

    Each worker has its own proxies and servers; the line of the first worker is printed.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._printed: set[str] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print the lines of engines that were not printed yet."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        for name, line in getattr(report, _SOURCES, {}).items():
            if name not in self._printed and terminal is not None and terminal.verbosity >= 0:
                terminal.ensure_newline()
                terminal.write_line(line)
            self._printed.add(name)


def scrub_report(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Replace every known key in the traceback and the captured output of a report."""
    # If this module is not imported, no key was registered. It is not imported here, to stay light.
    if secrets := sys.modules.get("llmengine.types.secrets"):
        _change(report, secrets.scrub)


def make_printable(report: pytest.TestReport) -> None:
    """Make control characters in a report visible; they may come from a model or a server."""
    from llmengine.types.printable import printable  # noqa: PLC0415 - imported when used

    _change(report, printable)


def _change(report: Any, change: Callable[[str], str]) -> None:
    for name in ("longrepr", "sections", "user_properties"):
        if value := getattr(report, name, None):
            setattr(report, name, _changed(value, change))


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    """The value with its texts changed; pytest's own traceback objects are changed in place."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_changed(item, change) for item in value)
    if isinstance(value, TerminalRepr):
        for name, held in vars(value).items():
            setattr(value, name, _changed(held, change))
    return value
