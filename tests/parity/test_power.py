"""What a row says it would see: a change of this size is found in 95% of all runs."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_llmengine.parity import Choices, judge
from pytest_llmengine.parity.evidence import evidence_of
from pytest_llmengine.parity.significance import DecisionRule, p_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.parity import Side
    from pytest_llmengine.parity.answers import ParityAnswer

    Answers = Callable[..., ParityAnswer]
    Sides = Callable[..., Side]

PROMPTS = 40
RUNS = 40


class TextServer:
    """A server that shows texts only; some of its answers have another word."""

    def __init__(self, answer: Answers, chance: random.Random) -> None:
        self.chance = chance
        known = {"token_ids": None, "tokens": None, "completion_tokens": None}
        self.plain = [answer("one two", n, **known) for n in range(1, PROMPTS + 1)]

    def answers(self, noise: float, changed: float = 0.0) -> list[ParityAnswer]:
        """The answers of one pass."""
        odd = [replace(one, text=f"one {self.chance.random()}") for one in self.plain]
        return [
            theirs if self.chance.random() < 1 - (1 - noise) * (1 - changed) else ours
            for ours, theirs in zip(self.plain, odd, strict=True)
        ]


@pytest.mark.parametrize(
    ("noise", "margin", "is_live"), [(0, 0, False), (0, 0, True), (0, 0.1, False), (0.1, 0, True)]
)
def test_what_would_be_seen_is_seen(
    answer: Answers, side: Sides, noise: float, margin: float, is_live: bool
) -> None:
    """Found in about 95% of 40 candidates, and in fewer if a half of the answers change."""
    server = TextServer(answer, random.Random(1))
    again = [server.answers(noise) for _ in range(4)]
    baseline = side(again[0], again=again[1:])
    unchanged = side(server.answers(noise), again=[server.answers(noise)])
    choices = Choices(alpha=0.02, margin=margin)
    seen = judge(baseline, unchanged, choices, is_live=is_live).criteria[1].would_see
    assert seen
    rule = DecisionRule(0.02, may_differ=choices.may_differ(PROMPTS), repeats=is_live, draws=199)

    def found(rate: float) -> int:
        pairs = ([server.answers(noise, rate) for _ in range(2)] for _ in range(RUNS))
        sides = (side(first, again=[second]) for first, second in pairs)
        return sum(p_value(evidence_of(baseline, one)[1], rule) <= rule.alpha for one in sides)

    assert found(seen) >= 0.85 * RUNS
    assert found(seen / 2) < 0.85 * RUNS


def test_a_test_that_is_shared_with_repeats_sees_less(answer: Answers, side: Sides) -> None:
    """If groups may be repeated, the test of all groups has half of the rate."""
    plain = TextServer(answer, random.Random(1)).plain
    both = side(plain), side(plain, again=[plain])

    def seen(alpha: float, *, is_live: bool) -> float | None:
        return judge(*both, Choices(alpha=alpha), is_live=is_live).criteria[1].would_see

    assert seen(0.02, is_live=True) == seen(0.01, is_live=False) != seen(0.02, is_live=False)


def test_a_row_shares_the_rate_with_the_rows_that_vary(answer: Answers, side: Sides) -> None:
    """If the texts vary, another row would be the second that does, and has half of the rate."""
    plain = TextServer(answer, random.Random(1)).plain
    odd = [replace(plain[0], text="one"), *plain[1:]]

    def seen(theirs: list[ParityAnswer], alpha: float) -> float | None:
        report = judge(side(plain), side(theirs, again=[plain]), Choices(alpha=alpha))
        return next(c for c in report.criteria if c.name == "finish reason").would_see

    assert seen(odd, 0.02) == seen(plain, 0.01) != seen(plain, 0.02)


def test_equal_first_answers_say_what_all_passes_would_see(answer: Answers, side: Sides) -> None:
    """A live run ends after a pass of equal answers; if they differed, there would be more."""
    plain = TextServer(answer, random.Random(1)).plain
    all_passes = side(plain), side(plain, again=[plain])
    first = side(plain, again=()), side(plain, again=())

    def seen(sides: tuple[Side, Side], *, is_live: bool) -> float | None:
        return judge(*sides, Choices(), is_live=is_live).criteria[1].would_see

    assert seen(first, is_live=True) == seen(all_passes, is_live=True)
    assert seen(first, is_live=False) is None
