"""Runs checks against an engine and gathers the report."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from pytest_llmengine.cli.console import stderr
from pytest_llmengine.cli.probe import probe
from pytest_llmengine.cli.progress import run_all
from pytest_llmengine.contract.profile import read_profile
from pytest_llmengine.contract.runner import run_check
from pytest_llmengine.reports import CheckRecord, Header, Report
from pytest_llmengine.reports.version import tool_version
from pytest_llmengine.targets import Mode, open_session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_llmengine.contract.profile import Profile
    from pytest_llmengine.contract.registry import Check
    from pytest_llmengine.targets import Session, Settings


def run_suite(
    name: str, settings: Settings, checks: Sequence[Check], profile_file: Path | None
) -> Report:
    """The report of the checks on the engine of that name, with progress on standard error."""
    began = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    profile = read_profile(profile_file) if profile_file else None
    console = stderr()
    with open_session(name, settings) as session:
        if session.mode is Mode.LIVE:
            probe(session.target, key_variable=session.key_variable)
        console.print(session.describe(), soft_wrap=True)
        run = partial(_record, session=session, profile=profile or session.profile)
        records = run_all(checks, run, console)
        return Report(_header(session, settings, began), tuple(records))


def _record(check: Check, *, session: Session, profile: Profile) -> CheckRecord:
    with session.cassette(check.id):
        return CheckRecord.of(run_check(check, session.target, profile))


def _header(session: Session, settings: Settings, began: str) -> Header:
    return Header(
        engine=session.engine.name,
        version=session.provenance.version,
        model=session.engine.model,
        mode=session.mode.value,
        describe=session.describe(),
        tier=settings.tier.name.lower(),
        date=began,
        tool_version=tool_version(),
    )
