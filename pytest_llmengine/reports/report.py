"""A whole run: what was tested, and every verdict."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.outcomes import Outcome

if TYPE_CHECKING:
    from pytest_llmengine.reports.record import CheckRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What was tested, how, when and by what.

    ``describe`` is the sentence that says where the answers come from, such as "replayed from
    llama.cpp b11549 (smollm2-135m), recorded 2026-11-21". ``mode`` is live, record or replay,
    ``date`` the start of the run in ISO 8601 (UTC), ``version`` the engine's own, or None where
    it does not say.
    """

    engine: str
    version: str | None
    model: str
    mode: str
    describe: str
    tier: str
    date: str
    tool_version: str


class Section(StrEnum):
    """Where a verdict stands in a report; the failures apart from what is known or claimed."""

    FAILED = "Not accepted"
    DEVIATES = "Known deviations"
    REFUSED = "Refused, and not claimed by the profile"
    UNMEASURED = "Not measured"
    NOT_RUN = "Not run"
    UNRECORDED = "Not recorded yet"


@dataclass(frozen=True, slots=True)
class Report:
    """A header and the records of a run, in the order of the catalogue."""

    header: Header
    checks: tuple[CheckRecord, ...]

    @property
    def accepted(self) -> bool:
        """Whether every verdict is accepted; a run without checks shows nothing."""
        return bool(self.checks) and all(c.accepted for c in self.checks)

    @property
    def outcomes(self) -> dict[Outcome, int]:
        """How often each outcome occurs, those that never do included."""
        counted = Counter(c.outcome for c in self.checks)
        return {outcome: counted[outcome] for outcome in Outcome}

    @property
    def groups(self) -> dict[str, dict[Outcome, int]]:
        """The matrix: for each group, in the order of the run, its count of each outcome."""
        rows: dict[str, dict[Outcome, int]] = {}
        for record in self.checks:
            row = rows.setdefault(record.group, dict.fromkeys(Outcome, 0))
            row[record.outcome] += 1
        return rows

    @property
    def sections(self) -> dict[Section, list[CheckRecord]]:
        """Every verdict that is not a pass, by where it stands; empty sections left out."""
        found: dict[Section, list[CheckRecord]] = {section: [] for section in Section}
        for record in self.checks:
            if record.outcome is not Outcome.PASS:
                found[_section(record)].append(record)
        return {section: records for section, records in found.items() if records}

    def summary(self) -> dict[str, Any]:
        """The counts that the JSON report holds."""
        return {
            "checks": len(self.checks),
            "accepted": sum(c.accepted for c in self.checks),
            "not_accepted": sum(not c.accepted for c in self.checks),
            "outcomes": {str(outcome): n for outcome, n in self.outcomes.items()},
            "seconds": round(sum(c.seconds for c in self.checks), 3),
        }


def _section(record: CheckRecord) -> Section:
    if not record.accepted and record.outcome is not Outcome.NOT_RUN:
        return Section.FAILED
    return Section[record.outcome.name]
