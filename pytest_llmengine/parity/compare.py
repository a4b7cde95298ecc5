"""The comparison of two sides: the choice of prompts, the measurement, and the verdict.

The search for causes that forbid a comparison comes first, with one prompt per kind. So no time is
lost on a comparison that cannot have a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_llmengine.parity.causes import (
    allow,
    causes_from_answers,
    causes_from_facts,
    mismatches,
    same_prompts,
)
from pytest_llmengine.parity.live import Live, measure_throughput
from pytest_llmengine.parity.pairs import pairs_of
from pytest_llmengine.parity.prompts import ParityError, built_in, read_prompts, select
from pytest_llmengine.parity.side import Side
from pytest_llmengine.parity.verdict import ParityReport, ParityVerdict, criteria

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_llmengine.parity.causes import Cause
    from pytest_llmengine.parity.live import Throughput
    from pytest_llmengine.parity.pairs import Pair
    from pytest_llmengine.parity.prompts import ParityPrompt
    from pytest_llmengine.parity.verdict import Criterion


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The user's choice of prompts: a file, kinds, their number, and a token limit for all."""

    file: Path | None = None
    kinds: tuple[str, ...] = ()
    limit: int | None = None
    max_tokens: int | None = None


def choose(
    baseline: Live | Side | None, candidate: Live | Side | None, selection: Selection
) -> list[ParityPrompt]:
    """The prompts for a comparison; a saved side brings its own prompts.

    Raises ParityError if the selection asks for prompts that a saved side was not sent.
    """
    saved = [side for side in (baseline, candidate) if isinstance(side, Side)]
    if not saved:
        return _select(selection)
    if selection.file is not None or selection.max_tokens is not None:
        raise ParityError(
            f"{saved[0].source} contains its prompts and their token limits; leave out the file "
            "of prompts and --max-tokens"
        )
    chosen = {
        prompt.id: prompt
        for side in reversed(saved)
        for prompt in select(side.prompts, selection.kinds, selection.limit)
    }
    return list(chosen.values())


def _select(selection: Selection) -> list[ParityPrompt]:
    prompts = built_in() if selection.file is None else read_prompts(selection.file)
    chosen = select(prompts, selection.kinds, selection.limit)
    if selection.max_tokens is None:
        return chosen
    return [replace(prompt, max_tokens=selection.max_tokens) for prompt in chosen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The user's choices for a comparison.

    ``allowed`` are the names of causes that may differ. ``margin`` is the share of prompts that may
    differ beyond the noise. ``rounds`` is how often the throughput is measured.
    """

    allowed: tuple[str, ...] = ()
    margin: float = 0.0
    rounds: int = 3


def causes_of(baseline: Side, candidate: Side, choices: Choices) -> tuple[Cause, ...]:
    """Every cause, with those that the user allows marked.

    If the prompts differ, the causes that show in answers are left out.
    """
    causes = [
        same_prompts(baseline, candidate),
        *causes_from_facts(baseline.facts, candidate.facts),
    ]
    if not mismatches(causes[:1]):
        causes += causes_from_answers(baseline, candidate.only(p.id for p in baseline.prompts))
    return tuple(allow(causes, choices.allowed))


def judge(
    baseline: Side, candidate: Side, choices: Choices, throughput: Throughput | None = None
) -> ParityReport:
    """The report on two measured sides."""
    causes = causes_of(baseline, candidate, choices)
    if mismatches(causes):
        return not_comparable(baseline, candidate, causes)
    candidate = candidate.only(p.id for p in baseline.prompts)
    pairs = pairs_of(baseline.prompts, baseline.answers, candidate.answers)
    found = criteria(pairs, baseline.noise, choices.margin)
    verdict, reason = _verdict(pairs, found, baseline, candidate)
    return ParityReport(
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


def not_comparable(baseline: Side, candidate: Side, causes: tuple[Cause, ...]) -> ParityReport:
    """The report on two sides whose setups differ; it has no verdict on how they compute."""
    named = [f"{c.name} ({c.baseline} / {c.candidate}; {c.note})" for c in mismatches(causes)]
    return ParityReport(
        verdict=ParityVerdict.NONE,
        reason=f"mismatch of {', '.join(named)}",
        baseline=baseline,
        candidate=candidate,
        causes=causes,
    )


def _verdict(
    pairs: Sequence[Pair], found: Sequence[Criterion], baseline: Side, candidate: Side
) -> tuple[ParityVerdict, str]:
    compared = sum(pair.compared for pair in pairs)
    if not baseline.noise:
        return ParityVerdict.NONE, "the baseline was saved without its noise floor; save it again"
    if not compared:
        return (
            ParityVerdict.NONE,
            f"no prompt was answered by both sides{_first_error(baseline, candidate)}",
        )
    if broken := [c.describe() for c in found if c.holds is False]:
        return ParityVerdict.DIVERGES, "; ".join(broken)
    left = len(pairs) - compared
    apart = f", {left} failed on both sides" if left else ""
    return (
        ParityVerdict.EQUAL,
        f"{compared} prompts compared{apart}, every number within the noise floor",
    )


def _first_error(baseline: Side, candidate: Side) -> str:
    errors = [answer.error for answer in (*baseline.answers, *candidate.answers) if answer.error]
    return f"; the first error is {errors[0]}" if errors else ""


def compare(
    baseline: Live | Side,
    candidate: Live | Side,
    prompts: Sequence[ParityPrompt],
    choices: Choices,
    on_baseline: Callable[[Side], None] | None = None,
) -> ParityReport:
    """The report on two sides, each live or saved, over these prompts.

    ``on_baseline`` is called with the baseline as soon as it is measured, so that its answers are
    not lost if the candidate fails.
    """
    mismatch = _early_mismatch(baseline, candidate, prompts, choices)
    if mismatch is not None:
        return mismatch
    ours = _measured(baseline, prompts, noise=True)
    if on_baseline is not None:
        on_baseline(ours)
    theirs = _measured(candidate, prompts, noise=False)
    throughput = None
    if isinstance(baseline, Live) and isinstance(candidate, Live):
        throughput = measure_throughput(baseline, candidate, prompts, choices.rounds)
    return judge(ours, theirs, choices, throughput)


def _early_mismatch(
    baseline: Live | Side,
    candidate: Live | Side,
    prompts: Sequence[ParityPrompt],
    choices: Choices,
) -> ParityReport | None:
    """The report on a mismatch that shows in one prompt per kind; None if there is no mismatch."""
    sample = list({prompt.kind: prompt for prompt in reversed(prompts)}.values())
    ours = _measured(baseline, sample, noise=False)
    theirs = _measured(candidate, sample, noise=False)
    causes = causes_of(ours, theirs, choices)
    return not_comparable(ours, theirs, causes) if mismatches(causes) else None


def _measured(side: Live | Side, prompts: Sequence[ParityPrompt], *, noise: bool) -> Side:
    if isinstance(side, Live):
        return side.measure(prompts, noise=noise)
    return side.only(prompt.id for prompt in prompts)
