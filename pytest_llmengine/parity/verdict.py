"""The verdict: whether a candidate differs from the baseline more than the baseline from itself.

Every count is held against the worst of the baseline's variations. With n prompts, and r the share
in which the baseline differed from itself, a candidate may differ in

    floor(n r + 2 sqrt(n r (1 - r)) + n margin)

of them: what the noise floor leads to expect, and two standard deviations of it. Where the
baseline never differed that is none at all. Differences of log-probabilities may be twice those of
the noise floor in nine prompts of ten, and four times in any, for one prompt says less than many.
They are never asked to be smaller than what float32 rounds away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_llmengine.parity.measures import COUNTS, DIFFERENCES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmengine.parity.measures import Count, Difference
    from pytest_llmengine.parity.noise import Variation
    from pytest_llmengine.parity.pair import Pair


class Verdict(StrEnum):
    """How a comparison ended."""

    EQUAL = "equal within noise"
    DIVERGES = "diverges"
    NONE = "cannot be compared"


DEVIATIONS = 2.0
ROUNDING = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One number of the candidate with what it may be.

    ``noise`` is the baseline's own, ``allowed`` the largest value that is accepted. All of a count
    are ``of`` as many; a difference of log-probabilities has no ``of``. Where there was nothing to
    measure on one of both, all are None.
    """

    name: str
    measured: float | None = None
    noise: float | None = None
    allowed: float | None = None
    of: int | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the candidate is within what is allowed; None if that was not measured."""
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
    """The candidate's numbers, each with its noise and what is allowed.

    ``margin`` is a share of prompts that may differ beyond the noise.
    """
    variations = [variation.pairs for variation in noise]
    counted = [_counted(name, count, pairs, variations, margin) for name, count in COUNTS.items()]
    return (*counted, *(_measured(m, pairs, variations) for m in DIFFERENCES))


def allowed_count(n: int, rate: float, margin: float = 0.0) -> int:
    """How many of n may differ, where the baseline differs from itself at that rate."""
    spread = DEVIATIONS * math.sqrt(n * rate * (1 - rate))
    return math.floor(n * (rate + margin) + spread + 1e-9)


def _counted(
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


def _measured(
    difference: Difference, pairs: Sequence[Pair], variations: Sequence[Sequence[Pair]]
) -> Criterion:
    name, found = difference.name, difference.of(pairs)
    floors = [value for value in map(difference.of, variations) if value is not None]
    if found is None or not floors:
        return Criterion(name=name)
    floor = max(floors)
    allowed = max(difference.times * floor, ROUNDING)
    return Criterion(name=name, measured=found, noise=floor, allowed=allowed)
