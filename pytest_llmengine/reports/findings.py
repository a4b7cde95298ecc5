"""What a report says to the users of a server: scores per level, findings, and what to do."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import shipped_profiles
from pytest_llmengine.contract.registry import Tier, catalogue
from pytest_llmengine.reports.model import level_rank

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_llmengine.reports.model import CheckRecord, ContractReport, Header

KEPT = frozenset({Outcome.PASS, Outcome.LENIENT})
"""The outcomes of a rule on which no client breaks."""

BROKEN = frozenset({Outcome.FAIL, Outcome.IGNORED, Outcome.REFUSED, Outcome.DEVIATES})
"""The outcomes of a rule on which a client may break; the others are no verdict on the rule."""

_TIERS = {tier.name.lower(): tier.value for tier in Tier}


@dataclass(frozen=True, slots=True)
class Score:
    """How many rules are kept, of those that have a verdict."""

    name: str
    outcomes: Mapping[Outcome, int]

    @classmethod
    def of(cls, name: str, records: Iterable[CheckRecord]) -> Score:
        """The score of these records."""
        return cls(name, Counter(record.outcome for record in records))

    @property
    def kept(self) -> int:
        """The number of rules that are kept."""
        return sum(self.outcomes.get(outcome, 0) for outcome in KEPT)

    @property
    def measured(self) -> int:
        """The number of rules with a verdict."""
        return self.kept + sum(self.outcomes.get(outcome, 0) for outcome in BROKEN)

    @property
    def unmeasured(self) -> int:
        """The number of rules without a verdict."""
        return sum(self.outcomes.values()) - self.measured

    @property
    def percent(self) -> str:
        """The share of kept rules; 100% only if all are kept, "-" if there is no verdict."""
        return f"{100 * self.kept // self.measured}%" if self.measured else "-"


def scores(report: ContractReport) -> list[Score]:
    """The score of each level, required first."""
    levels = sorted({record.level for record in report.checks}, key=level_rank)
    return [Score.of(level, (c for c in report.checks if c.level == level)) for level in levels]


@dataclass(frozen=True, slots=True)
class Finding:
    """A cause for which one or more rules are broken.

    ``example`` is the most important of these rules, and ``others`` are the rest.
    """

    example: CheckRecord
    others: tuple[CheckRecord, ...]

    @property
    def level(self) -> str:
        """The most important level of a broken rule."""
        return self.example.level


def findings(report: ContractReport) -> list[Finding]:
    """The findings that matter most come first: by level, then by the number of broken rules."""
    follows = report.follows
    families: dict[str, list[CheckRecord]] = {}
    for record in report.checks:
        if record.outcome in BROKEN:
            families.setdefault(follows.get(record.id, record.id), []).append(record)
    found = []
    for family in families.values():
        example, *others = sorted(
            family, key=partial(_importance, Counter(r.group for r in family))
        )
        found.append(Finding(example, tuple(others)))
    return sorted(found, key=lambda f: (level_rank(f.level), -len(f.others)))


def _importance(groups: Mapping[str, int], record: CheckRecord) -> tuple[int, int, int]:
    """Sorts a basic rule of the group that is affected most before one about a special case."""
    tier = _TIERS.get(record.tier, len(_TIERS) + 1)
    return level_rank(record.level), -groups[record.group], tier


@dataclass(frozen=True, slots=True)
class Advice:
    """Something that a reader can do next; ``command`` may be empty."""

    text: str
    command: str = ""


def verify_command(header: Header, *options: str) -> str:
    """The command that holds the same server to the contract again."""
    words = ["llmengine", "verify", "--engine", shlex.quote(header.engine)]
    if header.mode == "replay":
        words += ["--mode", "replay"]
    elif header.engine not in {"embedded", "mock"}:
        words += ["--url", '"$OPENAI_BASE_URL"', "--model", shlex.quote(header.model)]
    return " ".join((*words, *map(shlex.quote, options)))


def advice(report: ContractReport) -> Iterator[Advice]:
    """What to do about the findings of a report, the most urgent first."""
    counts = report.outcomes
    header = report.header
    if found := report.findings:
        yield Advice(
            "Write a profile that accepts what is known today. With --profile mine.toml, later "
            f"runs fail only on something new ({found} "
            f"{'finding is' if found == 1 else 'findings are'} not accepted now).",
            verify_command(header, "--write-profile", "mine.toml"),
        )
    elif counts[Outcome.DEVIATES] and header.engine in shipped_profiles():
        yield Advice(
            f"The profile of {header.engine} lists all {counts[Outcome.DEVIATES]} deviations. "
            "Read it, or change a copy of it for your own server.",
            f"llmengine contract profile {shlex.quote(header.engine)}",
        )
    if lost := counts[Outcome.ERROR] + counts[Outcome.NOT_RUN]:
        yield Advice(
            f"{lost} rules have no verdict, because the server did not answer in time or the run "
            "stopped. Give the answers more time.",
            verify_command(header, "--answer-timeout", "600"),
        )
    yield from _missing_capabilities(report)
    yield from _library_advice(report)
    if counts[Outcome.UNRECORDED]:
        yield Advice(
            f"{counts[Outcome.UNRECORDED]} rules are not recorded yet. Record them from the "
            "server; existing recordings are kept.",
            verify_command(header).replace("--mode replay", "--mode record"),
        )
    if _is_without_key(report.checks):
        yield Advice(
            "No key was used, so the rules about keys are not measured. Set LLMENGINE_API_KEY.",
            verify_command(header, "--check", "auth"),
        )


def _is_without_key(checks: Sequence[CheckRecord]) -> bool:
    outcomes = {check.outcome for check in checks if check.group == "auth"}
    return outcomes == {Outcome.UNMEASURED}


def _by_capability(report: ContractReport) -> dict[Capability, Score]:
    """The score of the rules that need each capability."""
    known = catalogue()
    needing: dict[Capability, list[CheckRecord]] = {}
    for record in report.checks:
        for capability in known[record.id].needs if record.id in known else ():
            needing.setdefault(capability, []).append(record)
    return {c: Score.of(c.value, needing[c]) for c in Capability if c in needing}


# A capability is missing if at most one in so many of its rules is kept; a server without it keeps
# a few rules about refusals.
_MISSING = 10


def _missing_capabilities(report: ContractReport) -> Iterator[Advice]:
    missing = [
        f"{name} ({score.kept} of {score.measured} rules kept)"
        for name, score in _by_capability(report).items()
        if score.measured and score.kept * _MISSING <= score.measured
    ]
    if missing:
        yield Advice(
            f"Do not rely on {', '.join(missing)}. Leave what the server lacks out of "
            "the capabilities of its profile, so that a clear refusal is accepted."
        )


# What the library does about a capability that a server has only in part.
_LIBRARY = {
    Capability.JSON_SCHEMA: "Do not rely on response_format alone: an output_model of llmengine "
    "validates every answer, and falls back to JSON mode and one repair turn.",
    Capability.TOOLS: "Check every tool call before you use it; in llmengine, an answer that "
    "ignores tool_choice is an error.",
}


def _library_advice(report: ContractReport) -> Iterator[Advice]:
    for name, score in _by_capability(report).items():
        if name in _LIBRARY and score.kept < score.measured:
            kept = f"{score.kept} of {score.measured} rules about {name} are kept."
            yield Advice(f"{kept} {_LIBRARY[name]}")
