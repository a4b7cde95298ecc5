"""The verdict: whether a candidate's answers have another distribution than the baseline's.

Each kind of evidence is a row with a p-value (see `significance`). The verdict is that the
candidate diverges if the p-value of a row, adjusted for the number of rows, is at most the
false-alarm rate of the run, or if answers contradict themselves, which no noise explains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_llmengine.parity.pairs import Pair, pairs_of
from pytest_llmengine.parity.power import rate_of_all, smallest_seen
from pytest_llmengine.parity.schedule import places_by_group
from pytest_llmengine.parity.significance import (
    ALPHA,
    Unit,
    adjusted_p_values,
    is_varied,
    p_value,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmengine.parity.answers import ParityAnswer
    from pytest_llmengine.parity.causes import Cause
    from pytest_llmengine.parity.contradictions import Contradiction
    from pytest_llmengine.parity.evidence import ParityEvidence
    from pytest_llmengine.parity.live import Throughput
    from pytest_llmengine.parity.prompts import ParityPrompt
    from pytest_llmengine.parity.side import Side
    from pytest_llmengine.parity.significance import DecisionRule


def tool_call_f1(pairs: Sequence[Pair]) -> float | None:
    """Agreement on tool calls, 1 if all are the same; None if there are no tool calls."""
    calls = [p.calls for p in pairs if p.calls is not None]
    made = sum(c.baseline + c.candidate for c in calls)
    return 2 * sum(c.matched for c in calls) / made if made else None


def differences(pairs: Sequence[Pair]) -> list[float]:
    """Each prompt's largest difference of log-probabilities, sorted."""
    return sorted(p.difference for p in pairs if p.difference is not None)


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest of the sorted values such that at least this share does not exceed it."""
    return values[max(math.ceil(share * len(values)) - 1, 0)] if values else None


class ParityVerdict(StrEnum):
    """How a comparison ended."""

    EQUAL = "equal within noise"
    DIVERGES = "diverges"
    NONE = "cannot be compared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One row of the verdict: a kind of evidence, with its test.

    ``of`` is the number of prompts that were compared; the rest is None if there are none.
    ``candidate`` is how many of them differ between an answer of the candidate and one of the
    baseline, on average, and ``noise`` how many differ between two answers of the baseline; for
    log-probabilities both are the mean difference in nats per token. ``p_value`` is that of the
    row, ``adjusted`` that after the correction for all rows. ``would_see`` is the smallest change
    that is found in 95% of such runs, as a share of the answers or in nats per token; None if
    there is none, or if the row ``differs``.
    """

    name: str
    of: int = 0
    candidate: float | None = None
    noise: float | None = None
    p_value: float | None = None
    adjusted: float | None = None
    differs: bool | None = None
    would_see: float | None = None
    is_share: bool = True

    @property
    def holds(self) -> bool | None:
        """Whether no difference was found; None if it was not measured."""
        return None if self.differs is None else not self.differs

    @property
    def is_varied(self) -> bool:
        """Whether the candidate's answers differ from the baseline's at all."""
        return bool(self.candidate)

    def measured(self) -> str:
        """How far the candidate is from the baseline."""
        if self.candidate is None:
            return "not measured"
        return f"{self.candidate:.3g} of {self.of}" if self.is_share else f"{self.candidate:.2g}"

    def seen(self) -> str:
        """The smallest change that would be found."""
        if self.would_see is None:
            return ""
        return f"{self.would_see:.1%}" if self.is_share else f"{self.would_see:.2g}"

    def describe(self) -> str:
        """The criterion in one line."""
        if self.adjusted is None:
            return f"{self.name}: not measured"
        return f"{self.name}: {self.measured()}, p = {self.adjusted:.2g}"


def criteria_of(rows: Sequence[ParityEvidence], rule: DecisionRule) -> tuple[Criterion, ...]:
    """The row of the verdict for each kind of evidence, tested if it was measured."""
    measured = {row.name: row for row in rows if row.of}
    p_values = {name: p_value(row, rule) for name, row in measured.items()}
    adjusted = adjusted_p_values(measured, p_values)
    family = sum(map(is_varied, measured.values()))

    def tested(row: ParityEvidence) -> Criterion:
        differs = adjusted[row.name] <= rule.alpha
        within = [value for place in row.distances if (value := row.within(place)) is not None]
        scale = 1 if row.is_share else 1 / row.of
        return Criterion(
            name=row.name,
            of=row.of,
            candidate=math.fsum(map(row.across, row.distances)) * scale,
            noise=math.fsum(within) * scale if within else None,
            p_value=p_values[row.name],
            adjusted=adjusted[row.name],
            differs=differs,
            would_see=None if differs else smallest_seen(row, rule, rate_of_all(row, rule, family)),
            is_share=row.is_share,
        )

    return tuple(
        tested(row) if row.of else Criterion(name=row.name, is_share=row.is_share) for row in rows
    )


_OTHER_GROUPS = (
    "the two sides were sent the prompts in other groups, so the false-alarm rate holds only if "
    "answers do not depend on the prompts that are computed with them"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """The outcome of a comparison: the sides, the causes, the criteria and the pairs.

    ``reason`` explains the verdict. ``pairs`` and ``criteria`` are empty if a mismatch forbids the
    comparison. ``alpha`` is the false-alarm rate of the run, ``margin`` the share of the prompts
    that may differ, ``unit`` what changed places in the tests, and ``dependence`` the p-value that
    decided it. ``passes`` are how many passes of the baseline and of the candidate were compared.
    ``throughput`` is None if it was not measured.
    """

    verdict: ParityVerdict
    reason: str
    baseline: Side
    candidate: Side
    causes: tuple[Cause, ...]
    pairs: tuple[Pair, ...] = ()
    criteria: tuple[Criterion, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    alpha: float = ALPHA
    margin: float = 0.0
    unit: Unit = Unit.GROUP
    dependence: float = 1.0
    passes: tuple[int, int] = (1, 1)
    throughput: Throughput | None = None

    @property
    def hypothesis(self) -> str:
        """What was tested."""
        where = f"in all but {self.margin:.2%} of the prompts, " if self.margin else ""
        return (
            f"{where}the candidate's answers have the distribution of the baseline's, as it was "
            "recorded"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be concluded, and why."""
        known = tuple(dict.fromkeys((*self.baseline.notes, *self.candidate.notes)))
        return known if known or self._sent_alike else (_OTHER_GROUPS,)

    @property
    def _sent_alike(self) -> bool:
        """Whether both sides were sent each prompt among the same others."""
        ours, theirs = (
            {frozenset(places) for places in places_by_group(side.groups).values()}
            for side in (self.baseline, self.candidate)
        )
        return ours == theirs and self.baseline.is_part == self.candidate.is_part

    @property
    def variations(self) -> dict[str, tuple[Pair, ...]]:
        """The further passes of the baseline, each compared with its first."""
        side = self.baseline
        return {
            f"pass {number + 1}": pairs_of(side.prompts, side.answers, side.answers_in(number))
            for number in range(1, side.passes if self.pairs else 1)
        }

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
