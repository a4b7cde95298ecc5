"""The run of ``llmengine verify``: open the engine, run the checks, and build the report."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_llmengine.cli.options import stderr
from pytest_llmengine.cli.progress import fetch_missing, run_all, start_progress
from pytest_llmengine.contract.costs import cost_of
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import read_profile
from pytest_llmengine.contract.runner import not_run
from pytest_llmengine.reports import CheckRecord, ContractReport
from pytest_llmengine.reports.model import header_of
from pytest_llmengine.targets import Mode, config_named, judge, open_session
from pytest_llmengine.targets.settings import facts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_llmengine.contract.profile import Profile
    from pytest_llmengine.contract.registry import Check
    from pytest_llmengine.contract.runner import CheckResult
    from pytest_llmengine.targets import Session, Settings

_INTERRUPTED = "the run was interrupted"


@dataclass(frozen=True, slots=True)
class SuiteRun:
    """The outcome of a run: the report, and the values that a profile is written from.

    ``results`` are the verdicts of the checks that were run; their exchanges are in the records of
    the report. ``profile`` is the profile that the checks were judged with.
    """

    report: ContractReport
    results: tuple[CheckResult, ...]
    profile: Profile
    interrupted: bool


def run_suite(
    name: str,
    settings: Settings,
    checks: Sequence[Check],
    profile_file: Path | None,
    jobs: int = 1,
) -> SuiteRun:
    """Run the checks on the engine of that name, with progress on standard error.

    Up to `jobs` checks run at the same time, and then those that must run alone. After an
    interrupt, the remaining checks are in the report as not run.
    """
    given = read_profile(profile_file) if profile_file else None
    _fetch_model(name, settings)
    console = stderr()
    with ExitStack() as stack:
        with start_progress(console) as on_progress:
            session = stack.enter_context(open_session(name, settings, on_progress))
        if session.advice and given is None:
            console.print(session.advice, soft_wrap=True)
        header = header_of(session, settings.tier)
        if not console.is_terminal:
            console.print(header.describe, soft_wrap=True)
        if session.mode is not Mode.REPLAY:
            console.print(f"the checks need about {cost_of(checks)}", soft_wrap=True)
        profile = given or session.profile
        verdicts = _Verdicts(session, profile, beside_others=jobs > 1)
        beside = [check for check in checks if jobs > 1 and not check.alone]
        alone = [check for check in checks if check not in beside]
        interrupted = False
        try:
            for some, workers in ((beside, jobs), (alone, 1)):
                if some:
                    deque(run_all(some, verdicts.add, console, jobs=workers), maxlen=0)
        except KeyboardInterrupt:
            interrupted = True
        report = ContractReport(header, tuple(map(verdicts.record, checks)))
        return SuiteRun(report, tuple(verdicts.results.values()), profile, interrupted)


def _fetch_model(name: str, settings: Settings) -> None:
    """Download the embedded engine's model with a progress bar, if it is missing."""
    config = config_named(name, settings.config, settings.cassettes)
    if config.backend == "embedded" and settings.mode is not Mode.REPLAY and not settings.url:
        fetch_missing(settings.model or config.model or facts(config.backend).model)


class _Verdicts:
    """The verdicts of a run, which may be added in several threads."""

    def __init__(self, session: Session, profile: Profile, *, beside_others: bool) -> None:
        self.results: dict[str, CheckResult] = {}
        self._records: dict[str, CheckRecord] = {}
        self._session = session
        self._profile = profile
        self._beside_others = beside_others

    def add(self, check: Check) -> CheckRecord:
        """Run a check and keep its verdict."""
        target = self._session.target
        if self._beside_others:
            target = target.twin()
        result = judge(check, self._session, self._profile, target=target)
        record = self._records[check.id] = CheckRecord.of(result)
        # The exchanges can be large; the record holds them cut.
        self.results[check.id] = replace(result, exchanges=())
        return record

    def record(self, check: Check) -> CheckRecord:
        """The record of a check; if it was not run, the record says so."""
        missing = not_run(check, Outcome.NOT_RUN, _INTERRUPTED)
        return self._records.get(check.id) or CheckRecord.of(missing)
