"""The account of a run: when, with what, how it ended, and what became of every record."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from llmengine.pipeline.folder import OUTPUTS, RUN, USAGE
from llmengine.pipeline.usage import usage_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmengine.config.engine import EngineConfig
    from llmengine.pipeline.chain import Chain
    from llmengine.pipeline.folder import RunFolder
    from llmengine.pipeline.records import Progress

_DISTRIBUTION = "pytest-llmengine"


@dataclass(frozen=True, slots=True)
class Report:
    """What a run left: its folder, every record as `outputs.jsonl` has it, counts and usage."""

    folder: Path
    records: list[dict[str, Any]]
    counts: dict[str, int]
    usage: dict[str, Any]

    @property
    def exit_status(self) -> int:
        """0 if every record was answered, else 1."""
        return 0 if self.counts["answered"] == self.counts["records"] else 1


@dataclass(frozen=True, slots=True)
class RunLog:
    """Writes the account of one run."""

    folder: RunFolder
    steps: tuple[str, ...]
    account: dict[str, Any]

    @classmethod
    def begin(cls, folder: RunFolder, chain: Chain, engines: Mapping[str, EngineConfig]) -> RunLog:
        """Note that a run began."""
        account = {"name": chain.name, **_with_what(chain, engines), "started": _now()}
        return cls._noted(folder, chain, account)

    @classmethod
    def go_on(cls, folder: RunFolder, chain: Chain, engines: Mapping[str, EngineConfig]) -> RunLog:
        """Note that a run goes on."""
        before = folder.read(RUN)
        resumed = [*before.get("resumed", ()), _now()]
        account = before | _with_what(chain, engines) | {"resumed": resumed}
        return cls._noted(folder, chain, account)

    @classmethod
    def _noted(cls, folder: RunFolder, chain: Chain, account: dict[str, Any]) -> RunLog:
        running = account | {"status": "running", "ended": None, "exit_status": None}
        folder.write_json(RUN, running)
        return cls(folder, tuple(step.id for step in chain.steps), running)

    def end(self, records: list[Progress], stopped_by: BaseException | None = None) -> Report:
        """Write the outputs, the usage and how it ended; a stop in the middle says by what."""
        rows = [_ended(progress, self.steps) for progress in records]
        counts = {"records": len(rows)} | {
            status: sum(row["status"] == status for row in rows)
            for status in ("answered", "failed", "pending")
        }
        usage = usage_of({step: self.folder.rows(step) for step in self.steps})
        report = Report(self.folder.path, rows, counts, usage)
        stopped = f"{type(stopped_by).__name__}: {stopped_by}" if stopped_by is not None else None
        end = {
            "status": "finished" if stopped is None else "stopped",
            "stopped_by": stopped,
            "ended": _now(),
            "exit_status": report.exit_status if stopped is None else None,
            "counts": counts,
        }
        self.folder.write_lines(OUTPUTS, rows)
        self.folder.write_json(USAGE, usage)
        self.folder.write_json(RUN, self.account | end)
        return report


def _ended(progress: Progress, steps: tuple[str, ...]) -> dict[str, Any]:
    whole = all(step in progress.outputs for step in steps)
    status = "failed" if progress.error else "answered" if whole else "pending"
    return {
        "id": progress.record.id,
        "status": status,
        "outputs": progress.outputs,
        "error": progress.error,
    }


def _with_what(chain: Chain, engines: Mapping[str, EngineConfig]) -> dict[str, Any]:
    used = {step.engine: engines[step.engine] for step in chain.steps}
    return {
        "engines": {n: {"backend": c.backend, "model": c.model} for n, c in used.items()},
        "versions": {_DISTRIBUTION: _version(), "python": platform.python_version()},
    }


def _version() -> str:
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "from source, not installed"


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
