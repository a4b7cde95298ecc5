"""The comparison of two sides: the choice of prompts, the measurement, and the verdict.

The search for causes that forbid a comparison comes first, with one prompt per kind. So no time is
lost on a comparison that cannot have a verdict. Then each live side answers all prompts once. If
these answers are equal in everything, no further ones are needed; this can only prevent a false
alarm.
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
from pytest_llmengine.parity.contradictions import contradictions_of
from pytest_llmengine.parity.evidence import evidence_of
from pytest_llmengine.parity.live import Live, measure_throughput
from pytest_llmengine.parity.pairs import pairs_of
from pytest_llmengine.parity.power import is_blind
from pytest_llmengine.parity.prompts import ParityError, built_in, read_prompts, select
from pytest_llmengine.parity.side import Side
from pytest_llmengine.parity.significance import (
    ALPHA,
    DEPENDENT,
    DecisionRule,
    Unit,
    dependence,
    differs_each_time,
    is_varied,
    repeats_needed,
)
from pytest_llmengine.parity.verdict import ParityReport, ParityVerdict, criteria_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from pytest_llmengine.parity.causes import Cause
    from pytest_llmengine.parity.contradictions import Contradiction
    from pytest_llmengine.parity.live import Throughput
    from pytest_llmengine.parity.prompts import ParityPrompt


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


_ROUNDING = 1e-9  # 0.07 * 100 is 7
PASSES, CANDIDATE_PASSES = 4, 2
"""How often each side is sent the prompts; more passes find smaller changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The user's choices for a comparison.

    ``allowed`` are the names of causes that may differ. ``alpha`` is the false-alarm rate of the
    run. ``margin`` is the share of prompts that may differ. ``passes`` and ``candidate_passes`` are
    how often a live baseline and a live candidate are sent the prompts if the first answers differ.
    ``rounds`` is how often the throughput is measured.
    """

    allowed: tuple[str, ...] = ()
    alpha: float = ALPHA
    margin: float = 0.0
    passes: int = PASSES
    candidate_passes: int = CANDIDATE_PASSES
    rounds: int = 3

    def may_differ(self, prompts: int) -> int:
        """How many of so many prompts may differ."""
        return int(self.margin * prompts + _ROUNDING)


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
    baseline: Side,
    candidate: Side,
    choices: Choices,
    throughput: Throughput | None = None,
    *,
    is_live: bool = False,
) -> ParityReport:
    """The report on two measured sides.

    ``is_live`` says whether prompts might have been sent to the candidate again.
    """
    causes = causes_of(baseline, candidate, choices)
    if mismatches(causes):
        return not_comparable(baseline, candidate, causes)
    candidate = candidate.only(p.id for p in baseline.prompts)
    rows = evidence_of(baseline, candidate)
    dependent = dependence(rows)
    unit = Unit.WHOLE_PASS if dependent < DEPENDENT else Unit.GROUP
    planned = (max(baseline.passes, choices.passes), choices.candidate_passes) if is_live else None
    may_differ = choices.may_differ(len(baseline.prompts))
    rule = DecisionRule(
        alpha=choices.alpha, may_differ=may_differ, repeats=is_live, unit=unit, planned=planned
    )
    report = ParityReport(
        verdict=ParityVerdict.NONE,
        reason="",
        baseline=baseline,
        candidate=candidate,
        causes=causes,
        pairs=pairs_of(baseline.prompts, baseline.answers, candidate.answers),
        criteria=criteria_of(rows, rule),
        contradictions=contradictions_of(baseline, candidate),
        alpha=choices.alpha,
        margin=choices.margin,
        unit=unit,
        dependence=dependent,
        passes=rows[0].sizes.passes,
        throughput=throughput,
    )
    verdict, reason = _verdict(report, blind=[r.name for r in rows if is_blind(r, rule)])
    return replace(report, verdict=verdict, reason=reason)


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


def _verdict(report: ParityReport, blind: Collection[str]) -> tuple[ParityVerdict, str]:
    """The verdict and its reason; ``blind`` are the rows that cannot be rejected."""
    compared = sum(pair.compared for pair in report.pairs)
    if not compared:
        error = _first_error(report.baseline, report.candidate)
        return ParityVerdict.NONE, f"no prompt was answered by both sides{error}"
    broken = [c.describe() for c in report.criteria if c.differs]
    broken += _first_contradictions(report.contradictions)
    if broken:
        return ParityVerdict.DIVERGES, "; ".join(broken)
    open_rows = [c for c in report.criteria if c.is_varied and c.name in blind]
    if open_rows:
        return ParityVerdict.NONE, f"{_too_few(report)}: {open_rows[0].describe()}"
    left = len(report.pairs) - compared
    apart = f", {left} failed on both sides" if left else ""
    return ParityVerdict.EQUAL, f"{compared} prompts compared{apart}, {_found(report)}"


_MOST_CONTRADICTIONS = 3


def _first_contradictions(found: Sequence[Contradiction]) -> list[str]:
    shown = [one.describe() for one in found[:_MOST_CONTRADICTIONS]]
    more = len(found) - len(shown)
    return [*shown, *([f"{more} more answers contradict themselves"] if more else [])]


def _too_few(report: ParityReport) -> str:
    """Why a difference cannot be told from noise."""
    ours, theirs = report.passes
    if ours == 1:
        return "the answers differ, and the baseline was not sent its prompts again"
    if report.unit is Unit.WHOLE_PASS:
        return (
            "the answers differ, but passes of the baseline differ from each other as a whole "
            f"(p = {report.dependence:.1g}), and {ours} of them with {theirs} of the candidate are "
            f"too few for a false-alarm rate of {report.alpha:g}; give more --passes and "
            "--candidate-passes"
        )
    margin = f" and a margin of {report.margin:.2%}" if report.margin else ""
    return (
        f"the answers differ, and {len(report.pairs)} prompts in {ours} passes of the baseline and "
        f"{theirs} of the candidate are too few for a false-alarm rate of {report.alpha:g}{margin}"
    )


def _found(report: ParityReport) -> str:
    varied = [c for c in report.criteria if c.is_varied]
    if not varied:
        return "no difference"
    least = min(c.adjusted for c in varied if c.adjusted is not None)
    return f"no difference beyond the noise (p = {least:.2g})"


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

    ``on_baseline`` is called with the baseline as soon as all its passes are measured, so that its
    answers are not lost if the candidate fails.
    """
    mismatch = _early_mismatch(baseline, candidate, prompts, choices)
    if mismatch is not None:
        return mismatch
    ours = _measured(baseline, prompts, passes=1 if on_baseline is None else choices.passes)
    if on_baseline is not None:
        on_baseline(ours)
    theirs = _measured(candidate, prompts, groups=ours.groups)
    ours, theirs = _measured_again(baseline, candidate, ours, theirs, choices)
    throughput = None
    if isinstance(baseline, Live) and isinstance(candidate, Live):
        throughput = measure_throughput(baseline, candidate, prompts, choices.rounds)
    return judge(ours, theirs, choices, throughput, is_live=isinstance(candidate, Live))


def _early_mismatch(
    baseline: Live | Side,
    candidate: Live | Side,
    prompts: Sequence[ParityPrompt],
    choices: Choices,
) -> ParityReport | None:
    """The report on a mismatch that shows in one prompt per kind; None if there is no mismatch."""
    sample = list({prompt.kind: prompt for prompt in reversed(prompts)}.values())
    ours = _measured(baseline, sample)
    theirs = _measured(candidate, sample)
    causes = causes_of(ours, theirs, choices)
    return not_comparable(ours, theirs, causes) if mismatches(causes) else None


def _measured(
    side: Live | Side,
    prompts: Sequence[ParityPrompt],
    passes: int = 1,
    groups: Sequence[int] | None = None,
) -> Side:
    if isinstance(side, Live):
        return side.measure(prompts, passes, groups)
    return side.only(prompt.id for prompt in prompts)


_MOST_GROUPS, _MOST_REPEATS = 2, 64


def _measured_again(
    baseline: Live | Side, candidate: Live | Side, ours: Side, theirs: Side, choices: Choices
) -> tuple[Side, Side]:
    """Both sides with the further passes that a test needs; the same if nothing differs."""
    if mismatches(causes_of(ours, theirs, choices)) or not _differ(ours, theirs):
        return ours, theirs
    if isinstance(baseline, Live):
        ours = baseline.repeat(ours, choices.passes - ours.passes)
    if isinstance(candidate, Live):
        theirs = candidate.repeat(theirs, choices.candidate_passes - theirs.passes)
        theirs = _repeat_groups(candidate, ours, theirs, choices)
    return ours, theirs


def _differ(ours: Side, theirs: Side) -> bool:
    """Whether the first answers of both sides differ in any way."""
    rows = evidence_of(replace(ours, again=()), replace(theirs, again=()))
    return any(map(is_varied, rows)) or bool(contradictions_of(ours, theirs))


def _repeat_groups(candidate: Live, ours: Side, theirs: Side, choices: Choices) -> Side:
    """The candidate with more passes over the groups that differ each time, if they are few.

    Many groups that differ are found without this.
    """
    rows = evidence_of(ours, theirs)
    rule = DecisionRule(may_differ=choices.may_differ(len(ours.prompts)))
    groups = set[int]().union(*(differs_each_time(row, rule) for row in rows))
    needed = repeats_needed(rows, choices.alpha, _MOST_REPEATS)
    if needed is None or not 0 < len(groups) <= _MOST_GROUPS:
        return theirs
    return candidate.repeat(theirs, needed, groups)
