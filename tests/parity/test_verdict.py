"""The verdict: relative to the baseline's own noise, by the documented formula."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.parity import Choices, ParityVerdict, judge
from pytest_llmengine.parity.verdict import allowed_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.parity import ParityReport, Side
    from pytest_llmengine.parity.answers import ParityAnswer

    Answers = Callable[..., ParityAnswer]
    Sides = Callable[..., Side]

FACTS = {"engine": "vLLM", "version": "1", "weights": "w"}
MANY = 100


@pytest.mark.parametrize(
    ("n", "rate", "margin", "allowed"),
    [
        (228, 0.0, 0.0, 0),
        (228, 0.0, 0.01, 2),
        (16, 0.25, 0.0, 7),  # 4 expected, and twice 1.73
        (200, 0.25, 0.0, 62),  # 50 expected, and twice 6.12
        (64, 1.0, 0.0, 64),
    ],
)
def test_the_formula(n: int, rate: float, margin: float, allowed: int) -> None:
    """The expected differences, two standard deviations and the margin."""
    assert allowed_count(n, rate, margin) == allowed


def said(answer: Answers, changed: int, **fields: Any) -> list[ParityAnswer]:
    """A hundred answers, of which so many are changed."""
    return [
        answer("one two" if n > changed else "one other", n, **fields) for n in range(1, MANY + 1)
    ]


def criterion(report: ParityReport, name: str) -> Any:
    """The criterion of that name."""
    return next(c for c in report.criteria if c.name == name)


@pytest.mark.parametrize(
    ("noise", "changed", "verdict"),
    [
        (0, 0, ParityVerdict.EQUAL),
        (0, 1, ParityVerdict.DIVERGES),
        (25, 33, ParityVerdict.EQUAL),  # 25 + 2 * 4.33
        (25, 34, ParityVerdict.DIVERGES),
    ],
)
def test_a_candidate_may_differ_as_the_noise_does(
    answer: Answers, side: Sides, noise: int, changed: int, verdict: ParityVerdict
) -> None:
    """The same number of differences is within the noise of one baseline and beyond another's."""
    baseline = side(said(answer, 0), again=said(answer, noise), **FACTS)

    report = judge(baseline, side(said(answer, changed), **FACTS), Choices())

    assert report.verdict is verdict
    assert criterion(report, "other tokens or text").measured == changed
    assert criterion(report, "other tokens or text").noise == noise


def test_the_worst_variation_counts(answer: Answers, side: Sides) -> None:
    """The largest noise of the baseline counts."""
    quiet, loud = side(said(answer, 0), **FACTS), side(said(answer, 0), again=said(answer, 9))
    baseline = replace(quiet, noise=(*quiet.noise, *loud.noise, *quiet.noise))

    report = judge(baseline, side(said(answer, 9), **FACTS), Choices())

    assert report.verdict is ParityVerdict.EQUAL
    assert criterion(report, "other tokens or text").noise == 9


def test_a_margin_allows_more(answer: Answers, side: Sides) -> None:
    """The user may allow more differences, as a share of the prompts."""
    baseline, candidate = side(said(answer, 0), **FACTS), side(said(answer, 2), **FACTS)

    assert judge(baseline, candidate, Choices(margin=0.01)).verdict is ParityVerdict.DIVERGES
    assert judge(baseline, candidate, Choices(margin=0.02)).verdict is ParityVerdict.EQUAL


@pytest.mark.parametrize(
    ("noise", "moved", "verdict"),
    [
        (0.0, 0.00009, ParityVerdict.EQUAL),  # lost by the rounding of float32
        (0.0, 0.0002, ParityVerdict.DIVERGES),
        (0.1, 0.19, ParityVerdict.EQUAL),
        (0.1, 0.21, ParityVerdict.DIVERGES),
    ],
)
def test_logprobs_may_differ_by_twice_the_noise(
    answer: Answers, side: Sides, noise: float, moved: float, verdict: ParityVerdict
) -> None:
    """The texts are the same, but the numbers show another computation."""
    ours = [answer()]
    baseline = side(ours, again=[answer(logprobs=[-0.1, -0.1 - noise, -0.1])], **FACTS)
    candidate = side([answer(logprobs=[-0.1, -0.1, -0.1 - moved])], **FACTS)

    report = judge(baseline, candidate, Choices())

    assert report.verdict is verdict
    assert report.pairs[0].same_text


@pytest.mark.parametrize(
    ("moved", "verdict"), [(0.39, ParityVerdict.EQUAL), (0.41, ParityVerdict.DIVERGES)]
)
def test_one_prompt_may_differ_by_four_times_the_noise(
    answer: Answers, side: Sides, moved: float, verdict: ParityVerdict
) -> None:
    """The largest difference is that of one prompt, and means less than that of most."""
    ours = said(answer, 0)
    again = [answer("one two", 1, logprobs=[-0.1, -0.2]), *ours[1:]]
    theirs = [answer("one two", 1, logprobs=[-0.1, -0.1 - moved]), *ours[1:]]

    report = judge(side(ours, again=again, **FACTS), side(theirs, **FACTS), Choices())

    assert report.verdict is verdict


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"error": "BadRequestError: no"}, "failed on one side"),
        ({"finish_reason": "content_filter"}, "other finish reason"),
        ({"completion_tokens": 7}, "other number of tokens"),
        ({"valid": False}, "no longer fits its schema"),
        ({"tool_calls": ()}, "tool calls without a match"),
    ],
)
def test_each_number_can_fail_alone(
    answer: Answers, side: Sides, change: dict[str, Any], name: str
) -> None:
    """One different prompt is beyond the noise of a baseline that never differs."""
    known = {"valid": True, "tool_calls": (("f", "{}"),)}
    ours = [answer(number=n, **known) for n in (1, 2)]
    theirs = [ours[0], answer(number=2, **known | change)]

    report = judge(side(ours, **FACTS), side(theirs, **FACTS), Choices())

    assert report.verdict is ParityVerdict.DIVERGES
    assert [c.name for c in report.criteria if c.holds is False] == [name]
    assert name in report.reason


def test_texts_count_where_token_ids_are_there(answer: Answers, side: Sides) -> None:
    """A gateway that swaps the texts of two answers, and nothing else, is found."""
    ours = [answer("one two", 1), answer("three four", 2), answer("five six", 3)]
    theirs = [replace(ours[0], text="three four"), replace(ours[1], text="one two"), ours[2]]

    report = judge(side(ours, **FACTS), side(theirs, **FACTS), Choices())

    assert report.verdict is ParityVerdict.DIVERGES
    assert report.reason == "other tokens or text: 2 of 3, 0 allowed"


def test_what_was_not_measured_does_not_count(answer: Answers, side: Sides) -> None:
    """Without log-probabilities, schemas and tools their criteria are left out."""
    plain = side([answer(tokens=None)], **FACTS)

    report = judge(plain, plain, Choices())

    assert {c.name for c in report.criteria if c.holds is None} == {
        "no longer fits its schema",
        "tool calls without a match",
        "logprob difference, 90%",
        "logprob difference, largest",
    }


def test_without_answers_there_is_no_verdict(answer: Answers, side: Sides) -> None:
    """Two sides that both fail are not equal."""
    failing = side([answer(error="APIConnectionError: no server")], **FACTS)

    report = judge(failing, failing, Choices())

    assert report.verdict is ParityVerdict.NONE
    assert "no server" in report.reason


def test_without_a_noise_floor_there_is_no_verdict(answer: Answers, side: Sides) -> None:
    """A baseline without its noise floor cannot judge."""
    unknown = replace(side([answer()], **FACTS), noise=())

    report = judge(unknown, unknown, Choices())

    assert report.verdict is ParityVerdict.NONE
    assert "noise floor" in report.reason
