"""The verdict: each kind of evidence has its own row, and the run one false-alarm rate."""

from __future__ import annotations

from dataclasses import replace
from math import comb
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.parity import Choices, ParityVerdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pytest_llmengine.parity import ParityReport, Side
    from pytest_llmengine.parity.answers import ParityAnswer

    Answers = Callable[..., ParityAnswer]
    Sides = Callable[..., Side]

FACTS = {"engine": "vLLM", "version": "1", "weights": "w"}
MANY = 24


def said(answer: Answers, changed: Collection[int]) -> list[ParityAnswer]:
    """Many answers, of which those to some prompts have another last word."""
    return [answer(f"one two {'x' if n in changed else 'y'}", n) for n in range(1, MANY + 1)]


def criterion(report: ParityReport, name: str) -> Any:
    """The criterion of that name."""
    return next(c for c in report.criteria if c.name == name)


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [((), "equal within noise"), ((5,), "equal within noise"), ((5, 9, 13), "diverges")],
)
def test_changes_that_chance_explains_are_equal(
    answer: Answers, side: Sides, changed: tuple[int, ...], verdict: str
) -> None:
    """One other text has p = 1/15, three have p = 1/15³; text, ids and tokens are three rows."""
    ours, theirs = said(answer, ()), said(answer, changed)

    report = judge(side(ours, **FACTS), side(theirs, again=[theirs], **FACTS), Choices())

    assert report.verdict.value == verdict
    found = criterion(report, "text")
    assert (found.candidate, found.noise) == (len(changed), 0)
    assert found.p_value == pytest.approx(1 / 15 ** len(changed), rel=0.3)
    assert found.adjusted == pytest.approx(min(1, 3 * found.p_value) if changed else 1, rel=0.01)


def test_a_candidate_may_differ_as_the_baseline_does(answer: Answers, side: Sides) -> None:
    """The same other answers are no difference from a baseline that gives them too."""
    often = range(1, MANY, 2)
    baseline = side(
        said(answer, ()),
        again=[said(answer, often), said(answer, ()), said(answer, often)],
        **FACTS,
    )
    candidate = side(said(answer, often), again=[said(answer, ())], **FACTS)

    report = judge(baseline, candidate, Choices())

    assert criterion(report, "text").noise == pytest.approx(MANY / 2 * 2 / 3)
    assert criterion(report, "text").p_value > 0.1
    assert report.verdict is not ParityVerdict.DIVERGES


def test_one_prompt_that_always_differs_is_found_by_asking_again(
    answer: Answers, side: Sides
) -> None:
    """Of 32 prompts, one is sent to the candidate 36 times; the factor is the number of prompts."""
    ours = [answer(f"one two {n}", n, tokens=None, token_ids=None) for n in range(1, 33)]
    theirs = [replace(ours[0], text="one"), *ours[1:]]
    baseline, candidate = side(ours, **FACTS), side(theirs, again=[theirs], **FACTS)
    asked = candidate.with_more({0: [theirs[0]] * 34})

    reports = [judge(baseline, one, Choices(), is_live=True) for one in (candidate, asked)]

    assert [r.verdict.value for r in reports] == ["equal within noise", "diverges"]
    assert criterion(reports[1], "text").p_value == pytest.approx(2 * 32 / comb(40, 4))
    allowed = judge(baseline, asked, Choices(margin=1 / 32), is_live=True)
    assert allowed.verdict is ParityVerdict.EQUAL


def test_a_live_candidate_with_few_prompts_cannot_be_told_from_chance(
    answer: Answers, side: Sides
) -> None:
    """If a prompt was not sent again, one that differs in both passes has p = 1/15."""
    other = [answer("three")]

    report = judge(side([answer()]), side(other, again=[other]), Choices(), is_live=True)

    assert report.verdict is ParityVerdict.NONE
    assert "too few" in report.reason


def test_passes_that_differ_as_a_whole_are_the_unit(answer: Answers, side: Sides) -> None:
    """Answers of a pass that depend on each other cannot be told from a change in few passes."""
    every = range(1, MANY + 1)
    plain = said(answer, ())
    baseline = side(plain, again=[plain, said(answer, every), plain], **FACTS)
    candidate = side(said(answer, every), again=[said(answer, every)], **FACTS)

    report = judge(baseline, candidate, Choices())

    assert report.unit == "pass"
    assert report.verdict is ParityVerdict.NONE
    assert "passes of the baseline differ from each other as a whole" in report.reason
    more = side(plain, again=[*[plain] * 7, *[said(answer, every)] * 2], **FACTS)
    ample = side(said(answer, every), again=[said(answer, every)] * 4, **FACTS)
    assert judge(more, ample, Choices(alpha=0.05)).verdict is ParityVerdict.DIVERGES


def test_a_margin_is_a_part_of_the_hypothesis(answer: Answers, side: Sides) -> None:
    """As many prompts as the user allows may differ; the report says so."""
    ours = [answer(number=n, token_ids=None, tokens=None) for n in range(1, MANY + 1)]
    theirs = [*(replace(one, text="four") for one in ours[:4]), *ours[4:]]
    baseline, candidate = side(ours, **FACTS), side(theirs, again=[theirs], **FACTS)

    reports = [judge(baseline, candidate, Choices(margin=m)) for m in (0, 0.04, 0.2)]

    assert [r.verdict.value for r in reports] == ["diverges", "diverges", "equal within noise"]
    assert "in all but 20.00% of the prompts" in reports[-1].hypothesis


def test_a_margin_spares_the_prompts_that_differ(answer: Answers, side: Sides) -> None:
    """Two prompts differ, as the user allows, and two vary more than that by chance.

    If the two furthest were left out of all arrangements, those that differ would be left.
    """

    def said_with(varied: float, changed: float) -> list[ParityAnswer]:
        moved = {1: varied, 2: varied, 3: changed, 4: changed}
        return [answer(number=n, logprobs=[moved.get(n, -0.1)] * 3) for n in range(1, MANY + 1)]

    ours = [said_with(varied, -0.1) for varied in (-0.1, -0.4, -0.1, -0.3)]
    theirs = [said_with(varied, -0.11) for varied in (-0.4, -0.5)]
    baseline, candidate = side(ours[0], again=ours[1:]), side(theirs[0], again=theirs[1:])

    report = judge(baseline, candidate, Choices(margin=2 / MANY))

    assert report.verdict is ParityVerdict.EQUAL, report.reason


def test_a_margin_is_a_share_of_all_prompts(answer: Answers, side: Sides) -> None:
    """A row that few prompts show allows as many of them to differ as any other."""
    some = [answer(number=n, valid=True if n < 9 else None) for n in range(1, MANY + 1)]
    theirs = [replace(one, valid=False) for one in some[:2]] + some[2:]
    sides = side(some), side(theirs, again=[theirs])

    reports = [judge(*sides, Choices(margin=m)) for m in (1 / MANY, 2 / MANY)]

    assert [r.criteria[5].p_value for r in reports] == [pytest.approx(29 / 225), 1]
    assert judge(*sides, Choices()).verdict is ParityVerdict.DIVERGES


def test_a_margin_that_allows_nearly_everything_cannot_tell(answer: Answers, side: Sides) -> None:
    """If not even a candidate that differs everywhere would diverge, this is said."""
    theirs = said(answer, range(MANY + 1))

    report = judge(side(said(answer, ())), side(theirs, again=[theirs]), Choices(margin=0.9))

    assert report.verdict is ParityVerdict.NONE
    assert "a margin of 90.00%" in report.reason


@pytest.mark.parametrize(
    ("moved", "verdict"), [(0.00009, "equal within noise"), (0.002, "diverges")]
)
def test_logprobs_are_a_row(answer: Answers, side: Sides, moved: float, verdict: str) -> None:
    """The texts are the same, but the numbers show another computation; rounding is not one."""
    ours = [answer(number=n) for n in range(1, 6)]
    theirs = [answer(number=n, logprobs=[-0.1 - moved] * 3) for n in range(1, 6)]

    report = judge(side(ours, **FACTS), side(theirs, again=[theirs], **FACTS), Choices())

    assert report.verdict.value == verdict
    assert report.pairs[0].same_text
    assert [c.name for c in report.criteria if c.differs] == (
        ["log-probabilities"] if verdict == "diverges" else []
    )


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"error": "BadRequestError: no"}, "answered"),
        ({"text": "one two 3"}, "text"),
        ({"token_ids": (1, 2, 3)}, "token ids"),
        ({"finish_reason": "content_filter"}, "finish reason"),
        ({"completion_tokens": 7}, "number of tokens"),
        ({"valid": False}, "schema"),
        ({"tool_calls": ()}, "tool calls"),
    ],
)
def test_each_row_can_differ_alone(
    answer: Answers, side: Sides, change: dict[str, Any], name: str
) -> None:
    """Two prompts that always differ are more than chance, and only in the row that they show."""
    known = {"valid": True, "tool_calls": (("f", "{}"),), "tokens": None}
    ours = [answer(number=n, **known) for n in range(1, MANY + 1)]
    theirs = [*ours[:-2], *(replace(one, **change) for one in ours[-2:])]

    report = judge(side(ours, **FACTS), side(theirs, again=[theirs], **FACTS), Choices())

    assert report.verdict is ParityVerdict.DIVERGES
    assert [c.name for c in report.criteria if c.differs] == [name]
    assert report.reason.startswith(f"{name}: 2 of 24, p = 0.0044")


def test_parts_that_one_side_leaves_in_the_text_are_no_difference(
    answer: Answers, side: Sides
) -> None:
    """Texts are not compared if one side takes reasoning out of them; ids are."""
    ours = [answer(number=n) for n in range(1, MANY + 1)]
    theirs = [replace(one, text="three", reasoning="one two") for one in ours]

    report = judge(side(ours, **FACTS), side(theirs, again=[theirs], **FACTS), Choices())

    assert report.verdict is ParityVerdict.EQUAL
    assert criterion(report, "text").of == 0
    assert criterion(report, "token ids").of == MANY


def test_calls_that_one_side_leaves_in_the_text_end_as_text(answer: Answers, side: Sides) -> None:
    """A side that does not take calls out of the text ends them with "stop"."""
    made = {"text": "", "tool_calls": (("f", "{}"),), "finish_reason": "tool_calls"}
    theirs = [answer(number=n) for n in range(1, MANY + 1)]
    ours = [replace(one, **made) for one in theirs]

    report = judge(side(ours, **FACTS), side(theirs, again=[theirs], **FACTS), Choices())

    assert report.verdict is ParityVerdict.EQUAL, report.reason
    assert criterion(report, "finish reason").of == MANY


def test_logprobs_are_compared_up_to_the_first_other_token(answer: Answers, side: Sides) -> None:
    """After it, the texts are others, so their log-probabilities say nothing."""

    def moved(last: float) -> float:
        ours = [answer("one two three", n) for n in range(1, MANY + 1)]
        logprobs = [-0.1, -0.1, last]
        theirs = [answer("one zwei three", n, logprobs=logprobs) for n in range(1, MANY + 1)]
        report = judge(side(ours, **FACTS), side(theirs, again=[theirs], **FACTS), Choices())
        return float(criterion(report, "log-probabilities").candidate)

    assert moved(-0.1) == moved(-2.0) > 0


def test_lists_of_other_lengths_are_no_difference(answer: Answers, side: Sides) -> None:
    """A server that shows two of the likeliest tokens is compared by these."""
    ours = [answer(number=n) for n in range(1, MANY + 1)]
    assert ours[0].tokens
    fewer = tuple(replace(token, top=token.top[:1]) for token in ours[0].tokens)
    theirs = [replace(one, tokens=fewer) for one in ours]

    report = judge(side(ours, **FACTS), side(theirs, again=[theirs], **FACTS), Choices())

    assert criterion(report, "log-probabilities").candidate == 0


def test_what_was_not_measured_does_not_count(answer: Answers, side: Sides) -> None:
    """Without log-probabilities, schemas and tools their criteria are left out."""
    plain = side([answer(tokens=None)], **FACTS)

    report = judge(plain, plain, Choices())

    assert {c.name for c in report.criteria if c.holds is None} == {
        "schema",
        "tool calls",
        "log-probabilities",
    }


def test_same_says_what_would_have_been_seen(answer: Answers, side: Sides) -> None:
    """More passes of the candidate see smaller changes, and few prompts see none."""
    ours = said(answer, ())
    seen = [
        criterion(judge(side(ours), side(ours, again=[ours] * more), Choices()), "text").would_see
        for more in (1, 2)
    ]

    assert 0.05 < seen[1] < seen[0] < 0.3
    one = side([answer()], **FACTS)
    assert criterion(judge(one, one, Choices()), "text").would_see is None


def test_other_groups_are_said(answer: Answers, side: Sides) -> None:
    """The rate needs both sides to be sent each prompt among the same others."""
    ours = side(said(answer, ()), **FACTS)
    pairs = replace(ours, groups=tuple(n // 2 for n in range(MANY)))
    some = [prompt.id for prompt in ours.prompts[:5]]  # the last one without the other of its group

    def notes(baseline: Side, candidate: Side) -> int:
        return len(judge(baseline, candidate, Choices()).notes)

    assert (notes(pairs, pairs), notes(ours, pairs)) == (0, 1)
    assert (notes(pairs.only(some), pairs.only(some)), notes(pairs.only(some), ours)) == (0, 1)


def test_without_answers_there_is_no_verdict(answer: Answers, side: Sides) -> None:
    """Two sides that both fail are not equal."""
    failing = side([answer(error="APIConnectionError: no server")], **FACTS)

    report = judge(failing, failing, Choices())

    assert report.verdict is ParityVerdict.NONE
    assert "no server" in report.reason


def test_one_pass_of_the_baseline_cannot_judge_a_difference(answer: Answers, side: Sides) -> None:
    """Without its noise, a baseline can only say that nothing differs."""
    ours, theirs = said(answer, ()), said(answer, range(MANY + 1))
    baseline = side(ours, again=(), **FACTS)

    assert judge(baseline, side(ours, **FACTS), Choices()).verdict is ParityVerdict.EQUAL
    report = judge(baseline, side(theirs, **FACTS), Choices())
    assert report.verdict is ParityVerdict.NONE
    assert "the baseline was not sent its prompts again" in report.reason
