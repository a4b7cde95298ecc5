"""The run of ``llmengine verify``: open the engine, run the checks, and build the report."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_llmengine.cli.options import stderr
from pytest_llmengine.cli.progress import fetch_missing, run_all, start_progress
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
    name: str, settings: Settings, checks: Sequence[Check], profile_file: Path | None
) -> SuiteRun:
    """Run the checks on the engine of that name, with progress on standard error.

    After an interrupt, the remaining checks are in the report as not run.
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
        profile = given or session.profile
        results: list[CheckResult] = []
        records: list[CheckRecord] = []
        run = partial(_record, session=session, profile=profile, results=results)
        interrupted = False
        try:
            for record in run_all(checks, run, console, title=header.describe):
                records.append(record)  # noqa: PERF402 - keeps the records before an interrupt
        except KeyboardInterrupt:
            interrupted = True
        left = checks[len(records) :]
        records += (CheckRecord.of(not_run(c, Outcome.NOT_RUN, _INTERRUPTED)) for c in left)
        report = ContractReport(header, tuple(records))
        return SuiteRun(report, tuple(results), profile, interrupted)


def _fetch_model(name: str, settings: Settings) -> None:
    """Download the embedded engine's model with a progress bar, if it is missing."""
    config = config_named(name, settings.config)
    if config.backend == "embedded" and settings.mode is not Mode.REPLAY and not settings.url:
        fetch_missing(settings.model or config.model or facts(config.backend).model)


def _record(
    check: Check, *, session: Session, profile: Profile, results: list[CheckResult]
) -> CheckRecord:
    result = judge(check, session, profile)
    results.append(
        replace(result, exchanges=())
    )  # exchanges can be large; the record holds them cut
    return CheckRecord.of(result)
