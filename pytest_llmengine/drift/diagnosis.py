"""What may have changed, named from what is seen in the answers.

Each cause is looked for on its own, the most certain ones first. Nothing here is part of the
verdict, so a wrong name is not a false alarm.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import fsum
from statistics import StatisticsError, correlation, linear_regression, mean
from typing import TYPE_CHECKING

from pytest_llmengine.drift.answers import RoundKind
from pytest_llmengine.drift.baseline import DriftTier
from pytest_llmengine.drift.evidence import EVIDENCE
from pytest_llmengine.drift.report import NamedChange
from pytest_llmengine.statistics.two_sample import ROUNDING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_llmengine.drift.answers import DriftAnswer, DriftSession
    from pytest_llmengine.drift.baseline import Baseline
    from pytest_llmengine.drift.report import EvidenceRow

_FACTORS = ((0.2, 0.98), (1.02, 5.0))  # of log-probabilities, which name a temperature
_STRAIGHT = 0.999  # the correlation of log-probabilities of which only the scale has changed


@dataclass(frozen=True, slots=True)
class _Sides:
    """All answers of both sides, by prompt, and the kinds of evidence that have changed."""

    baseline: Baseline
    ours: Mapping[int, Sequence[DriftAnswer]]
    theirs: Mapping[int, Sequence[DriftAnswer]]
    changed: frozenset[str]

    def both(self, kind: RoundKind | None = None) -> Iterator[tuple[DriftAnswer, DriftAnswer]]:
        """The first answers of both sides to each prompt."""
        for n, prompt in enumerate(self.baseline.probe.prompts):
            if kind in {None, prompt.kind} and self.ours.get(n) and self.theirs.get(n):
                yield self.ours[n][0], self.theirs[n][0]


def named_changes(
    baseline: Baseline,
    candidate: Sequence[DriftSession],
    rows: Sequence[EvidenceRow],
    alpha: float,
) -> list[NamedChange]:
    """The likely causes of a change."""
    changed = (row.evidence for row in rows if row.is_changed(alpha))
    sides = _Sides(
        baseline, _by_prompt(baseline.sessions), _by_prompt(candidate), frozenset(changed)
    )
    found = {name: seen for name, look in _CERTAIN.items() if (seen := look(sides))}
    if not found and sides.changed:
        others = ((name, look(sides)) for name, look in _OTHERS.items())
        found = dict([next((name, seen) for name, seen in others if seen)])
    return [NamedChange(name=name, seen=seen) for name, seen in found.items()]


def _by_prompt(sessions: Sequence[DriftSession]) -> dict[int, list[DriftAnswer]]:
    answers: dict[int, list[DriftAnswer]] = {}
    for session in sessions:
        for answer in session.answers:
            answers.setdefault(answer.prompt, []).append(answer)
    return answers


def _cached(sides: _Sides) -> str:
    ours, theirs = (
        [answer.repeated for answers in side.values() for answer in answers]
        for side in (sides.ours, sides.theirs)
    )
    if any(ours) or not any(theirs):
        return ""
    return f"{sum(theirs)} of {len(theirs)} answers have the id of an earlier answer"


def _prompt_tokens(sides: _Sides) -> str:
    differences = Counter(
        theirs.prompt_tokens - ours.prompt_tokens
        for ours, theirs in sides.both()
        if ours.prompt_tokens is not None and theirs.prompt_tokens is not None
    )
    if not differences or set(differences) == {0}:
        return ""
    if len(differences) > 1:
        return f"prompts have {min(differences):+d} to {max(differences):+d} tokens"
    (difference,) = differences
    return f"every prompt has {difference:+d} tokens"


def _not_likeliest(sides: _Sides) -> str:
    ours, theirs = (
        [_is_other_token(answer) for answers in side.values() for answer in answers]
        for side in (_first(sides, sides.ours), _first(sides, sides.theirs))
    )
    if any(ours) or not any(theirs):
        return ""
    return f"{sum(theirs)} of {len(theirs)} first tokens are not the likeliest, at temperature 0"


def _first(
    sides: _Sides, answers: Mapping[int, Sequence[DriftAnswer]]
) -> dict[int, Sequence[DriftAnswer]]:
    first = sides.baseline.probe.of_kind(RoundKind.FIRST)
    return {n: some for n, some in answers.items() if n in first}


def _is_other_token(answer: DriftAnswer) -> bool:
    if not answer.top or not answer.tokens or not answer.logprobs:
        return False
    return max(answer.top.values()) > answer.logprobs[0] + ROUNDING


def _scale(sides: _Sides) -> str:
    """The factor between the log-probabilities of both sides, if only that has changed."""
    ours: list[float] = []
    theirs: list[float] = []
    for one, other in sides.both(RoundKind.FIRST):
        shared = [token for token in one.top or () if token in (other.top or {})]
        if one.top and other.top and 2 * len(shared) >= len(one.top):
            ours += _centred([one.top[token] for token in shared])
            theirs += _centred([other.top[token] for token in shared])
    try:
        slope = linear_regression(ours, theirs, proportional=True).slope
        straight = correlation(ours, theirs)
    except StatisticsError:
        return ""
    if straight < _STRAIGHT or not any(low <= slope <= high for low, high in _FACTORS):
        return ""
    return (
        f"all log-probabilities are {slope:.2f} times as far apart, "
        f"as at temperature {1 / slope:.2f}"
    )


def _centred(values: Sequence[float]) -> list[float]:
    middle = mean(values)
    return [value - middle for value in values]


def _maximum(sides: _Sides) -> str:
    limits = {
        answer.completion_tokens
        for n, answers in sides.theirs.items()
        for answer in answers
        if answer.finish_reason == "length"
        and answer.completion_tokens is not None
        and answer.completion_tokens < sides.baseline.probe.prompts[n].max_tokens
    }
    return f"answers end at {max(limits)} tokens although more are allowed" if limits else ""


def _cut(sides: _Sides) -> str:
    answers = [answer for some in sides.theirs.values() for answer in some]
    said = [
        (a.text, "".join(a.tokens)) for a in answers if a.tokens and a.finish_reason == "length"
    ]
    cut = sum(len(text) < len(all_of_it) and all_of_it.startswith(text) for text, all_of_it in said)
    return f"{cut} of {len(answers)} texts end before their last token" if cut else ""


def _penalty(sides: _Sides) -> str:
    """A penalty changes no first token, while other weights change its log-probability."""
    return _longer_only(sides) if sides.baseline.probe.tier is DriftTier.LOGPROBS else ""


def _longer_only(sides: _Sides) -> str:
    if not _only(sides, RoundKind.LONG):
        return ""
    return "longer answers at temperature 0 differ, and first tokens do not"


def _seed(sides: _Sides) -> str:
    if not _only(sides, RoundKind.SAMPLED):
        return ""
    return "sampled answers differ, and those at temperature 0 do not"


def _only(sides: _Sides, kind: RoundKind) -> bool:
    """Whether evidence of this kind has changed, and none of an earlier kind."""
    kinds = {e.kind for e in EVIDENCE if e.name in sides.changed}
    return bool(kinds) and min(kinds, key=list(RoundKind).index) is kind


def _difference(sides: _Sides) -> str:
    """How far the log-probabilities of the first tokens differ, in words."""
    differences = [
        abs(value - other.top[token])
        for one, other in sides.both(RoundKind.FIRST)
        if one.top and other.top
        for token, value in one.top.items()
        if token in other.top
    ]
    if not differences:
        return "answers differ, and nothing else does"
    average = fsum(differences) / len(differences)
    return f"log-probabilities differ by {average:.2g} nats on average, and nothing else does"


_CERTAIN: dict[str, Callable[[_Sides], str]] = {
    "cached answers": _cached,
    "system prompt or chat template": _prompt_tokens,
    "truncated text": _cut,
    "another maximum of tokens": _maximum,
    "sampling values that were not asked for": _not_likeliest,
    "temperature": _scale,
}
# What is likely if none of these is seen; only the first one is named.
_OTHERS: dict[str, Callable[[_Sides], str]] = {
    "penalty": _penalty,
    "penalty, weights or kernels": _longer_only,
    "seed or sampling method": _seed,
    "weights, quantisation or kernels": _difference,
}
