"""From two measured sides to a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmengine.parity.causes import allow, mismatches, of_facts
from pytest_llmengine.parity.evidence import of_answers, same_prompts
from pytest_llmengine.parity.pairing import pairs_of
from pytest_llmengine.parity.report import Report
from pytest_llmengine.parity.verdict import Verdict, criteria

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmengine.parity.causes import Cause
    from pytest_llmengine.parity.pair import Pair
    from pytest_llmengine.parity.side import Side
    from pytest_llmengine.parity.throughput import Throughput
    from pytest_llmengine.parity.verdict import Criterion


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a user decides of a comparison.

    ``allowed`` are the names of causes that may differ, ``margin`` the share of prompts that may
    differ beyond the noise, ``rounds`` how often the throughput is measured.
    """

    allowed: tuple[str, ...] = ()
    margin: float = 0.0
    rounds: int = 3


def causes_of(baseline: Side, candidate: Side, choices: Choices) -> tuple[Cause, ...]:
    """Every cause, with what the user allows; what answers show is left out of other prompts."""
    causes = [same_prompts(baseline, candidate), *of_facts(baseline.facts, candidate.facts)]
    if not mismatches(causes[:1]):
        causes += of_answers(baseline, candidate.only(p.id for p in baseline.prompts))
    return tuple(allow(causes, choices.allowed))


def judge(
    baseline: Side, candidate: Side, choices: Choices, throughput: Throughput | None = None
) -> Report:
    """The report on two measured sides."""
    causes = causes_of(baseline, candidate, choices)
    if mismatches(causes):
        return not_comparable(baseline, candidate, causes)
    candidate = candidate.only(p.id for p in baseline.prompts)
    pairs = pairs_of(baseline.prompts, baseline.answers, candidate.answers)
    found = criteria(pairs, baseline.noise, choices.margin)
    verdict, reason = _verdict(pairs, found, baseline, candidate)
    return Report(
        verdict=verdict,
        reason=reason,
        baseline=baseline,
        candidate=candidate,
        causes=causes,
        pairs=pairs,
        criteria=found,
        margin=choices.margin,
        throughput=throughput,
    )


def not_comparable(baseline: Side, candidate: Side, causes: tuple[Cause, ...]) -> Report:
    """The report on sides whose setup differs, which is no verdict on how they compute."""
    named = [f"{c.name} ({c.baseline} / {c.candidate}; {c.note})" for c in mismatches(causes)]
    return Report(
        verdict=Verdict.NONE,
        reason=f"mismatch of {', '.join(named)}",
        baseline=baseline,
        candidate=candidate,
        causes=causes,
    )


def _verdict(
    pairs: Sequence[Pair], found: Sequence[Criterion], baseline: Side, candidate: Side
) -> tuple[Verdict, str]:
    compared = sum(pair.compared for pair in pairs)
    if not baseline.noise:
        return Verdict.NONE, "the baseline was saved without its noise floor; save it anew"
    if not compared:
        return (
            Verdict.NONE,
            f"no prompt was answered by both sides{_first_error(baseline, candidate)}",
        )
    if broken := [c.describe() for c in found if c.holds is False]:
        return Verdict.DIVERGES, "; ".join(broken)
    left = len(pairs) - compared
    apart = f", {left} failed on both sides" if left else ""
    return Verdict.EQUAL, f"{compared} prompts compared{apart}, every number within the noise floor"


def _first_error(baseline: Side, candidate: Side) -> str:
    errors = [answer.error for answer in (*baseline.answers, *candidate.answers) if answer.error]
    return f"; the first error is {errors[0]}" if errors else ""
