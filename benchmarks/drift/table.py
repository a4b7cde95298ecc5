"""Measure which real changes of a llama.cpp server `llmengine drift check` finds, and how often.

    python benchmarks/drift/table.py --runs 20

Each run of a change is a check of a new server process against the recorded baseline. Every change
is measured once, then every change again. Each run is a file in .nox/drift/runs, so the program
goes on where it was stopped. With ``--runs 0`` it only judges the files. The summary is
tests/drift/recorded/changes.json, from which ``tools/drift_table.py`` writes the tables of the
docs. The first run of each change is kept there as a recorded candidate, which the tests judge
without an engine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from changes import CHANGES, MODEL, ROOT, running

from pytest_llmengine.drift import DriftTier, DriftVerdict, judge, load, save
from pytest_llmengine.drift.live import CHECK_EFFORT, RECORD_EFFORT, facts_of, measure, record
from pytest_llmengine.drift.search import search
from pytest_llmengine.targets import Mode, Settings, open_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_llmengine.drift import Baseline, DriftReport
    from pytest_llmengine.targets import Session

RECORDED = ROOT / "tests" / "drift" / "recorded"
RUNS = ROOT / ".nox" / "drift" / "runs"
SUMMARY = RECORDED / "changes.json"
_NAME = "llama.cpp"
_SECONDS = 600


def main() -> None:
    """Measure what is missing, and write the summary."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers are ended
    RUNS.mkdir(parents=True, exist_ok=True)
    for run in range(options.runs):
        for change in options.change:
            for tier in options.tier:
                path = run_path(change, tier, run)
                if path.exists() or tier not in CHANGES[change].tiers:
                    continue
                candidate = measured(change, run, _baseline(CHANGES[change].against, tier))
                print(path.name, candidate.sessions[-1].error or "measured", flush=True)
                if not candidate.sessions[-1].error:
                    save(candidate, path)
    write_summary()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="runs per change and tier")
    parser.add_argument(
        "--change",
        action="append",
        choices=CHANGES,
        metavar="NAME",
        help="measure only these changes",
    )
    parser.add_argument("--tier", action="append", type=DriftTier, help="measure only these tiers")
    options = parser.parse_args()
    options.change = options.change or list(CHANGES)
    options.tier = options.tier or [DriftTier.LOGPROBS, DriftTier.TEXT]
    return options


def file_name(change: str) -> str:
    """The name of a change in names of files."""
    return "-".join("".join(c if c.isalnum() else " " for c in change.lower()).split())


def run_path(change: str, tier: DriftTier, run: int) -> Path:
    """The file of one run."""
    return RUNS / f"{file_name(change)}.{tier}.{run:02}.jsonl.gz"


@contextmanager
def opened(url: str) -> Iterator[Session]:
    """The server at this address, as the command line opens it; a busy machine gets more time."""
    engine = {"name": _NAME, "backend": "openai_compatible", "endpoint": f"{url}/v1"}
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "engines.yaml")
        config.write_text(json.dumps([{**engine, "model": MODEL, "timeout": _SECONDS}]), "utf-8")
        settings = Settings(engines=(_NAME,), config=config, mode=Mode.LIVE)
        with open_session(_NAME, settings) as session:
            yield session


def baseline_path(against: str, tier: DriftTier) -> Path:
    """The recorded baseline of a server with this change."""
    return RECORDED / f"baseline-{file_name(against)}.{tier}.jsonl.gz"


def _baseline(against: str, tier: DriftTier) -> Baseline:
    """The recorded baseline; if there is none, it is measured."""
    path = baseline_path(against, tier)
    if not path.exists():
        RECORDED.mkdir(parents=True, exist_ok=True)
        with running(CHANGES[against]) as url, opened(url) as session:
            effort = replace(RECORD_EFFORT, seed=0)
            found = search(session.engine, tier, effort.chance)
            print(f"{path.name}: {found.note}", flush=True)
            spent = found.requests
            save(record(session, found.probe, effort=effort, search_requests=spent), path)
    return load(path)


def measured(change: str, run: int, baseline: Baseline) -> Baseline:
    """A candidate: a new server with the change, asked what a check asks."""
    loads = CHANGES[change].loads or baseline.probe.loads
    asked = replace(baseline, probe=replace(baseline.probe, loads=loads), source=None)
    with running(CHANGES[change], run) as url, opened(url) as session:
        facts = facts_of(session)
        sessions = measure(session, asked, replace(CHECK_EFFORT, seed=run))
    return replace(asked, facts=facts, sessions=tuple(sessions))


def write_summary() -> None:
    """Judge every file of a run, and write the summary with the first run of each change.

    Changes that were not measured here keep their row.
    """
    before = json.loads(SUMMARY.read_text("utf-8")) if SUMMARY.exists() else {}
    rows: dict[str, dict[str, Any]] = {change: before.get(change, {}) for change in CHANGES}
    for change, tier in product(CHANGES, DriftTier):
        paths = sorted(RUNS.glob(f"{file_name(change)}.{tier}.??.jsonl.gz"))
        if paths:
            rows[change] = {**rows[change], tier.value: _row(change, tier, paths)}
    rows = {change: tiers for change, tiers in rows.items() if tiers}
    SUMMARY.write_text(f"{json.dumps(rows, indent=1, ensure_ascii=False)}\n", "utf-8")
    used = {row["file"] for tiers in rows.values() for row in tiers.values()}
    for path in {*RECORDED.glob("*.gz")} - {*RECORDED.glob("baseline-*")}:
        if path.name not in used:
            path.unlink()


def _row(change: str, tier: DriftTier, paths: Sequence[Path]) -> dict[str, Any]:
    """The row of a change in one tier; its first run is copied."""
    file = f"{file_name(change)}.{tier}.jsonl.gz"
    shutil.copy(paths[0], RECORDED / file)
    against = baseline_path(CHANGES[change].against, tier)
    baseline = load(against)
    reports = [_judged(baseline, path) for path in paths]
    return {"file": file, "baseline": against.name, **summary(reports)}


def _judged(baseline: Baseline, path: Path) -> DriftReport:
    candidate = load(path)
    return judge(baseline, candidate.sessions, facts=candidate.facts, power=False)


def summary(reports: Sequence[DriftReport]) -> dict[str, Any]:
    """One change in one tier: how often it was found, by what, and at what cost.

    ``recorded`` is the outcome of the first run, whose answers are in the repository.
    """
    verdicts = Counter(report.verdict for report in reports)
    first = reports[0]
    return {
        "recorded": {
            "verdict": first.verdict.value,
            "evidence": _significant(first),
            "findings": _findings(first),
        },
        "runs": len(reports),
        "changed": verdicts[DriftVerdict.CHANGED],
        "unknown": verdicts[DriftVerdict.UNKNOWN],
        "p": median(min(_adjusted(report).values(), default=1.0) for report in reports),
        "evidence": _in_most(map(_significant, reports), len(reports)),
        "findings": _in_most(map(_findings, reports), len(reports)),
        "named": _in_most(([one.name for one in r.named] for r in reports), len(reports)),
        "requests": median(report.requests for report in reports),
        "tokens": median(sum(report.tokens) for report in reports),
    }


def _adjusted(report: DriftReport) -> dict[str, float]:
    return {row.evidence: row.adjusted for row in report.rows if row.adjusted is not None}


def _significant(report: DriftReport) -> list[str]:
    return [name for name, p in _adjusted(report).items() if p <= report.alpha]


def _findings(report: DriftReport) -> list[str]:
    return list(dict.fromkeys(finding.name for finding in report.findings))


def _in_most(named: Iterable[Sequence[str]], runs: int) -> list[str]:
    """The names that more than half of the runs have, the most common ones first."""
    counts = Counter(name for names in named for name in names)
    return [name for name, count in counts.most_common() if 2 * count > runs]


if __name__ == "__main__":
    main()
