"""A look at a live server, written to the journal, and the baseline that replaces a changed one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmengine.containers.docker import silent
from pytest_llmengine.drift.baseline import save
from pytest_llmengine.drift.check import judge
from pytest_llmengine.drift.findings import find
from pytest_llmengine.drift.journal import JournalHead, digest_of, open_journal
from pytest_llmengine.drift.live import Effort, facts_of, measure, record
from pytest_llmengine.drift.report import DriftVerdict
from pytest_llmengine.drift.watch import (
    LookScores,
    WatchReport,
    next_look,
    now,
    refusal,
    report_of,
    rounds_of,
)
from pytest_llmengine.version import tool_version

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.drift.baseline import Baseline
    from pytest_llmengine.targets import Session

_TORN = (
    "the last line of the journal was not complete, because a run was killed; it was removed, and "
    "that look does not count"
)


def watch(  # noqa: PLR0913 - the choices of the user
    session: Session,
    baseline: Baseline,
    journal: Path,
    *,
    alpha: float | None = None,
    seed: int | None = None,
    on_progress: OnProgress = silent,
) -> WatchReport:
    """Look at a live server once, and report on all looks until now.

    ``alpha`` is the false-alarm rate of all looks together, which the first look decides. Nothing
    is asked or written if the baseline has too few sessions.
    """
    if reason := refusal(baseline):
        return WatchReport.refused(baseline, reason)
    with open_journal(journal) as looks:
        alpha = looks.begin(digest_of(baseline), alpha, now(), tool_version())
        scores = LookScores(baseline)
        effort = Effort(1, rounds_of(baseline), seed=seed)
        facts = facts_of(session)
        measured = measure(session, baseline, effort, on_progress)
        # One of each kind; the first says enough.
        found = {one.name: one.detail for one in reversed(find(baseline, measured, facts))}
        look = next_look(
            scores,
            alpha,
            looks.looks,
            measured[0],
            [f"{name}: {detail}" for name, detail in found.items()],
        )
        looks.add(look)
        report = report_of(scores, alpha, looks.looks)
        if report.verdict is DriftVerdict.CHANGED:
            report = replace(
                report, named=judge(baseline, measured, alpha=alpha, facts=facts).named
            )
        return replace(
            report,
            facts=facts,
            journal=journal,
            earlier=looks.earlier,
            note=_TORN if looks.torn else "",
        )


def accept(  # noqa: PLR0913 - the choices of the user
    session: Session,
    baseline: Baseline,
    file: Path,
    journal: Path,
    *,
    url: str | None = None,
    effort: Effort,
    alpha: float,
    on_progress: OnProgress = silent,
) -> Baseline:
    """Record a new baseline with the same prompts in place of the file, and begin its looks.

    The journal is written first. If the process is killed before the file is replaced, the next
    look refuses the journal, and `accept` can be run again.
    """
    with open_journal(journal) as looks:
        new = record(
            session,
            baseline.probe,
            url=url,
            effort=effort,
            tolerance=baseline.tolerance,
            on_progress=on_progress,
        )
        looks.accept(
            JournalHead(
                baseline=digest_of(new), alpha=alpha, date=now(), tool_version=tool_version()
            )
        )
        _replace(new, file)
    return new


def _replace(baseline: Baseline, file: Path) -> None:
    target = file.resolve()  # a symbolic link stays a link
    new = target.with_name(f"new-{target.name}")
    save(baseline, new)
    new.replace(target)
