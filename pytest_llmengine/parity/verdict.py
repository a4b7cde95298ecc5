"""The verdict: whether a candidate differs from the baseline more than the baseline from itself.

Every count is compared with the worst of the baseline's variations. With n prompts, and r the share
of them in which the baseline differed from itself, a candidate may differ in

    floor(n r + 2 sqrt(n r (1 - r)) + n margin)

of them. This is the number that the noise floor predicts plus two standard deviations of it. If the
baseline never differed from itself and the margin is 0, no difference is allowed.

For differences of log-probabilities, the 90% quantile over the prompts may be twice that of the
noise floor, and the largest may be four times that of the noise floor, because a single prompt says
less than many. Differences below what float32 rounds away are always allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_llmengine.parity.pairs import Pair, Status

if TYPE_CHECKING:
    from pytest_llmengine.parity.answers import ParityAnswer
    from pytest_llmengine.parity.causes import Cause
    from pytest_llmengine.parity.live import Throughput
    from pytest_llmengine.parity.prompts import ParityPrompt
    from pytest_llmengine.parity.side import Side, Variation


Count = Callable[[Sequence[Pair]], tuple[int, int]]
"""Counts pairs: returns how many are affected, and out of how many."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A quantile of the prompts' differences, which may be ``times`` that of the noise floor."""

    name: str
    share: float
    times: float

    def of(self, pairs: Sequence[Pair]) -> float | None:
        """The quantile over these pairs; None if there are no log-probabilities."""
        return quantile(differences(pairs), self.share)


def _failed_on_one_side(pairs: Sequence[Pair]) -> tuple[int, int]:
    return sum(p.status is Status.ONE_FAILED for p in pairs), len(pairs)


def _diverged(pairs: Sequence[Pair]) -> tuple[int, int]:
    compared = [p for p in pairs if p.compared]
    return sum(p.status is Status.DIVERGED for p in compared), len(compared)


def _finish_reasons(pairs: Sequence[Pair]) -> tuple[int, int]:
    compared = [p for p in pairs if p.compared]
    return sum(p.finish_reasons[0] != p.finish_reasons[1] for p in compared), len(compared)


def _completion_tokens(pairs: Sequence[Pair]) -> tuple[int, int]:
    counted = [p.completion_tokens for p in pairs if None not in p.completion_tokens]
    return sum(ours != theirs for ours, theirs in counted), len(counted)


def _lost_validity(pairs: Sequence[Pair]) -> tuple[int, int]:
    valid = [p for p in pairs if p.valid[0]]
    return sum(not p.valid[1] for p in valid), len(valid)


def _tool_calls(pairs: Sequence[Pair]) -> tuple[int, int]:
    """Calls of both sides without a match on the other side, out of all calls: one minus F1."""
    calls = [p.calls for p in pairs if p.calls is not None]
    made = sum(c.baseline + c.candidate for c in calls)
    return made - 2 * sum(c.matched for c in calls), made


def tool_call_f1(pairs: Sequence[Pair]) -> float | None:
    """Agreement on tool calls, 1 if all are the same; None if there are no tool calls."""
    unmatched, made = _tool_calls(pairs)
    return 1 - unmatched / made if made else None


def differences(pairs: Sequence[Pair]) -> list[float]:
    """Each prompt's largest difference of log-probabilities, sorted."""
    return sorted(p.difference for p in pairs if p.difference is not None)


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest of the sorted values such that at least this share does not exceed it."""
    return values[max(math.ceil(share * len(values)) - 1, 0)] if values else None


COUNTS: dict[str, Count] = {
    "failed on one side": _failed_on_one_side,
    "other tokens or text": _diverged,
    "other finish reason": _finish_reasons,
    "other number of tokens": _completion_tokens,
    "no longer fits its schema": _lost_validity,
    "tool calls without a match": _tool_calls,
}

DIFFERENCES = (
    Difference("logprob difference, 90%", 0.9, times=2.0),
    Difference("logprob difference, largest", 1.0, times=4.0),
)


class ParityVerdict(StrEnum):
    """How a comparison ended."""

    EQUAL = "equal within noise"
    DIVERGES = "diverges"
    NONE = "cannot be compared"


DEVIATIONS = 2.0
ROUNDING = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One measured value of the candidate with its limit.

    ``noise`` is the baseline's own value. ``allowed`` is the largest value that is accepted. If the
    value is a count, ``of`` is the number that it is out of; a difference of log-probabilities has
    no ``of``. All are None if there was nothing to measure in the comparison or in the noise.
    """

    name: str
    measured: float | None = None
    noise: float | None = None
    allowed: float | None = None
    of: int | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the measured value is allowed; None if it was not measured."""
        if self.measured is None or self.allowed is None:
            return None
        return self.measured <= self.allowed

    def describe(self) -> str:
        """The criterion in one line."""
        if self.measured is None or self.allowed is None:
            return f"{self.name}: not measured"
        if self.of is not None:
            return f"{self.name}: {self.measured:g} of {self.of}, {self.allowed:g} allowed"
        return f"{self.name}: {self.measured:.2g}, {self.allowed:.2g} allowed"


def criteria(
    pairs: Sequence[Pair], noise: Sequence[Variation], margin: float = 0.0
) -> tuple[Criterion, ...]:
    """The candidate's values, each with the noise and the allowed value.

    ``margin`` is the share of prompts that may differ beyond the noise.
    """
    variations = [variation.pairs for variation in noise]
    counted = [
        _count_criterion(name, count, pairs, variations, margin) for name, count in COUNTS.items()
    ]
    return (*counted, *(_difference_criterion(m, pairs, variations) for m in DIFFERENCES))


def allowed_count(n: int, rate: float, margin: float = 0.0) -> int:
    """How many of n may differ if the baseline differs from itself at this rate."""
    spread = DEVIATIONS * math.sqrt(n * rate * (1 - rate))
    return math.floor(n * (rate + margin) + spread + 1e-9)


def _count_criterion(
    name: str,
    count: Count,
    pairs: Sequence[Pair],
    variations: Sequence[Sequence[Pair]],
    margin: float,
) -> Criterion:
    found, of = count(pairs)
    rates = [bad / n for bad, n in map(count, variations) if n]
    if not of or not rates:
        return Criterion(name=name)
    rate = max(rates)
    allowed = allowed_count(of, rate, margin)
    return Criterion(name=name, measured=found, noise=rate * of, allowed=allowed, of=of)


def _difference_criterion(
    difference: Difference, pairs: Sequence[Pair], variations: Sequence[Sequence[Pair]]
) -> Criterion:
    name, found = difference.name, difference.of(pairs)
    floors = [value for value in map(difference.of, variations) if value is not None]
    if found is None or not floors:
        return Criterion(name=name)
    floor = max(floors)
    allowed = max(difference.times * floor, ROUNDING)
    return Criterion(name=name, measured=found, noise=floor, allowed=allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """The outcome of a comparison: the sides, the causes, the criteria and the pairs.

    ``reason`` explains the verdict. ``pairs`` and ``criteria`` are empty if a mismatch forbids the
    comparison. ``throughput`` is None if it was not measured.
    """

    verdict: ParityVerdict
    reason: str
    baseline: Side
    candidate: Side
    causes: tuple[Cause, ...]
    pairs: tuple[Pair, ...] = ()
    criteria: tuple[Criterion, ...] = ()
    margin: float = 0.0
    throughput: Throughput | None = None

    @property
    def kinds(self) -> dict[str, list[Pair]]:
        """The pairs, grouped by the kind of their prompts."""
        found: dict[str, list[Pair]] = {}
        for pair in self.pairs:
            found.setdefault(pair.kind, []).append(pair)
        return found

    def answers(self, id: str) -> tuple[ParityAnswer, ParityAnswer]:  # noqa: A002 - the prompt's own name
        """The baseline's and the candidate's answer to a prompt."""
        place = next(n for n, prompt in enumerate(self.baseline.prompts) if prompt.id == id)
        return self.baseline.answers[place], self.candidate.answers[place]

    def prompt(self, id: str) -> ParityPrompt:  # noqa: A002 - the prompt's own name
        """The prompt with this id."""
        return next(prompt for prompt in self.baseline.prompts if prompt.id == id)
