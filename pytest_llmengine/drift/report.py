"""The report of a check: the verdict, the test of each kind of evidence, and what was found."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_llmengine.drift.answers import DriftSession
    from pytest_llmengine.drift.baseline import Baseline, DriftFacts, DriftUnit

SCHEMA_VERSION = 1
ALPHA = 0.01
"""The false-alarm rate of a check, unless the user gives another."""


class DriftVerdict(StrEnum):
    """How a check ended."""

    SAME = "same"
    CHANGED = "changed"
    UNKNOWN = "cannot tell"

    @property
    def exit_status(self) -> int:
        """The exit status of a command that ends with this verdict."""
        return list(DriftVerdict).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRow:
    """The test of one kind of evidence.

    ``p_value`` is None if the evidence was not compared; ``note`` says why then. ``adjusted`` is
    the p-value after Holm's correction for all rows in which anything differs. ``distance`` is the
    energy distance, in prompts; it is None if all units of both sides are equal.
    Up to ``tolerance``, the candidate is not further from the baseline than its own sessions vary,
    whatever the p-value is. ``units`` are the numbers of units of the baseline and the candidate.
    ``would_see`` is the smallest change that is found in 95% of checks of this size, in words.
    """

    evidence: str
    p_value: float | None = None
    adjusted: float | None = None
    distance: float | None = None
    tolerance: float = 0.0
    units: tuple[int, int] = (0, 0)
    would_see: str = ""
    note: str = ""

    def is_changed(self, alpha: float) -> bool:
        """Whether this row alone makes the verdict *changed* at this false-alarm rate."""
        if self.adjusted is None or self.distance is None:
            return False
        return self.adjusted <= alpha and self.distance > self.tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFinding:
    """Something that needs no statistics, since a server that has not changed never does it.

    ``prompt`` is the text of the prompt, None if the finding is not about one.
    """

    name: str
    detail: str
    prompt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedChange:
    """A likely cause of a change, with what was seen; it is not part of the verdict."""

    name: str
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """The outcome of a check.

    ``reason`` explains the verdict. ``candidate`` is empty if nothing was asked, and ``facts``
    None if the candidate's server is not known.
    """

    verdict: DriftVerdict
    reason: str
    alpha: float
    unit: DriftUnit
    baseline: Baseline
    candidate: tuple[DriftSession, ...] = ()
    facts: DriftFacts | None = None
    rows: tuple[EvidenceRow, ...] = ()
    findings: tuple[DriftFinding, ...] = ()
    named: tuple[NamedChange, ...] = ()

    @property
    def hypothesis(self) -> str:
        """What is tested, in one sentence."""
        return (
            "the answers have the distribution of the baseline's, in the conditions in which it "
            "was recorded"
        )

    @property
    def requests(self) -> int:
        """The number of requests of the check."""
        return sum(session.requests for session in self.candidate)

    @property
    def tokens(self) -> tuple[int, int]:
        """The tokens of the prompts and of the answers of the check."""
        return (
            sum(session.prompt_tokens for session in self.candidate),
            sum(session.completion_tokens for session in self.candidate),
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON object, without the answers.

        Its version is raised when a field is renamed or removed.
        """
        prompt_tokens, completion_tokens = self.tokens
        return {
            "schema_version": SCHEMA_VERSION,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "hypothesis": self.hypothesis,
            "alpha": self.alpha,
            "tier": self.baseline.probe.tier.value,
            "unit": self.unit.value,
            "baseline": head_of(self.baseline),
            "candidate": None if self.facts is None else {"facts": asdict(self.facts)},
            "rows": [asdict(row) for row in self.rows],
            "findings": [asdict(finding) for finding in self.findings],
            "named_changes": [asdict(change) for change in self.named],
            "cost": {
                "requests": self.requests,
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
            },
        }

    def to_json(self) -> str:
        """The report as JSON text, ready to be written to a file."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"


def head_of(baseline: Baseline) -> dict[str, Any]:
    """What a JSON report says about a baseline."""
    return {
        "file": baseline.source,
        "date": baseline.date,
        "tool_version": baseline.tool_version,
        "self_test": baseline.self_test,
        "load_dependence": baseline.load_dependence,
        "tolerance": baseline.tolerance,
        "facts": asdict(baseline.facts),
    }
