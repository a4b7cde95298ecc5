"""Runs checks against an engine and gathers the report."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from pytest_llmengine.cli.console import stderr
from pytest_llmengine.cli.fetch import fetch_missing
from pytest_llmengine.cli.progress import run_all
from pytest_llmengine.cli.start_progress import start_progress
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import read_profile
from pytest_llmengine.contract.runner import not_run
from pytest_llmengine.reports import CheckRecord, Report
from pytest_llmengine.reports.header import header_of
from pytest_llmengine.targets import Mode, config_named, judge, open_session
from pytest_llmengine.targets.backends import facts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_llmengine.contract.profile import Profile
    from pytest_llmengine.contract.registry import Check
    from pytest_llmengine.targets import Session, Settings

_INTERRUPTED = "the run was interrupted"


def run_suite(
    name: str, settings: Settings, checks: Sequence[Check], profile_file: Path | None
) -> tuple[Report, bool]:
    """The report of the checks on the engine of that name, and whether the run was interrupted.

    Progress goes to standard error. The checks that an interrupt left are in the report as not run.
    """
    profile = read_profile(profile_file) if profile_file else None
    _fetch_model(name, settings)
    console = stderr()
    with ExitStack() as stack:
        with start_progress(console) as on_progress:
            session = stack.enter_context(open_session(name, settings, on_progress))
        header = header_of(session, settings.tier)
        run = partial(_record, session=session, profile=profile)
        records: list[CheckRecord] = []
        interrupted = False
        try:
            for record in run_all(checks, run, console, title=header.describe):
                records.append(record)  # noqa: PERF402 - an interrupt keeps what was made
        except KeyboardInterrupt:
            interrupted = True
        left = checks[len(records) :]
        records += (CheckRecord.of(not_run(c, Outcome.NOT_RUN, _INTERRUPTED)) for c in left)
        return Report(header, tuple(records)), interrupted


def _fetch_model(name: str, settings: Settings) -> None:
    """Download with a bar what the embedded engine would else download in silence."""
    config = config_named(name, settings.config)
    if config.backend == "embedded" and settings.mode is not Mode.REPLAY and not settings.url:
        fetch_missing(settings.model or config.model or facts(config.backend).model)


def _record(check: Check, *, session: Session, profile: Profile | None) -> CheckRecord:
    return CheckRecord.of(judge(check, session, profile))
