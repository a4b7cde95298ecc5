"""Answers that contradict themselves, and differences between servers that are none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.parity import Choices, ParityVerdict, judge
from pytest_llmengine.parity.answers import Token

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.parity import Side
    from pytest_llmengine.parity.answers import ParityAnswer

    Answers = Callable[..., ParityAnswer]
    Sides = Callable[..., Side]

TEXTS = ["one two", "three four five", "six seven", "eight nine", "ten"]


@pytest.fixture
def ours(answer: Answers) -> list[ParityAnswer]:
    """Answers whose words are tokens, with the spaces before them."""

    def spaced(one: ParityAnswer) -> ParityAnswer:
        assert one.tokens
        words = [token.text if n == 0 else f" {token.text}" for n, token in enumerate(one.tokens)]
        return replace(one, tokens=tuple(Token(word, -0.1, ((word, -0.1),)) for word in words))

    return [spaced(answer(text, n)) for n, text in enumerate(TEXTS, 1)]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"text": "three four"}, "the token ids are those of the baseline, and the text is not"),
        ({"text": "three four", "token_ids": None}, "the text is that of the tokens without the"),
        ({"text": "ten", "token_ids": None}, "the text is not that of the tokens"),
        ({"completion_tokens": 2}, "there are 1 more token ids than tokens of usage"),
        (
            {
                "tokens": (Token("three", -0.1, (("six", -0.2),)),),
                "token_ids": (9,),
                "text": "three",
            },
            "the log-probability of a chosen token does not fit the likeliest ones",
        ),
    ],
)
def test_one_answer_that_contradicts_itself_diverges(
    ours: list[ParityAnswer], side: Sides, change: dict[str, Any], what: str
) -> None:
    """The verdict has the prompt; no noise explains it, so there is no p-value."""
    theirs = [ours[0], replace(ours[1], **change), *ours[2:]]

    report = judge(side(ours), side(theirs, again=[ours]), Choices())

    assert report.verdict is ParityVerdict.DIVERGES
    assert {one.id for one in report.contradictions} == {"p2"}
    assert any(one.what.startswith(what) for one in report.contradictions)
    assert report.reason.startswith("p2: ")
    assert not [c.name for c in report.criteria if c.differs]


def test_swapped_texts_are_found(ours: list[ParityAnswer], side: Sides) -> None:
    """A gateway that swaps the texts of two answers, and nothing else, is found."""
    theirs = [replace(ours[0], text=TEXTS[2]), ours[1], replace(ours[2], text=TEXTS[0]), *ours[3:]]

    report = judge(side(ours), side(theirs, again=[ours]), Choices())

    assert {one.id for one in report.contradictions} == {"p1", "p3"}


def _with_end(one: ParityAnswer) -> ParityAnswer:
    return replace(one, tokens=(*(one.tokens or ()), Token("<end>", -0.1)), token_ids=None)


@pytest.mark.parametrize(
    "habit",
    [
        _with_end,
        lambda one: replace(one, token_ids=None, tokens=None),
        lambda one: replace(one, completion_tokens=one.completion_tokens + 1),
        lambda one: replace(one, text="", tool_calls=(("f", "{}"),)),
        lambda one: replace(one, text="said", reasoning="thought"),
        lambda one: replace(one, text=f" {one.text}\n"),
    ],
    ids=["end token", "nothing but text", "usage", "tool calls", "reasoning", "white space"],
)
def test_habits_of_a_server_are_no_contradictions(
    ours: list[ParityAnswer], side: Sides, habit: Callable[[ParityAnswer], ParityAnswer]
) -> None:
    """What all answers of the candidate have is not wrong, even if the baseline's are not so."""
    theirs = [habit(one) for one in ours]

    assert not judge(side(ours), side(theirs, again=[theirs]), Choices()).contradictions


@pytest.mark.parametrize(
    "more", [(1, 1, 1, 1, 0), (1, 1, -1, -1, 0)], ids=["as the baseline", "no majority"]
)
def test_answers_are_accused_only_if_most_agree(
    ours: list[ParityAnswer], side: Sides, more: tuple[int, ...]
) -> None:
    """Usage that is like the baseline's is not wrong, and without a majority none is."""
    theirs = [
        replace(one, completion_tokens=(one.completion_tokens or 0) + n)
        for one, n in zip(ours, more, strict=True)
    ]

    assert not judge(side(ours), side(theirs), Choices()).contradictions


def test_parts_of_a_character_are_not_read(ours: list[ParityAnswer], side: Sides) -> None:
    """Tokens that are parts of a character have no text of their own."""
    odd = replace(ours[1], text="three \ufffd", token_ids=None)

    assert not judge(side(ours), side([ours[0], odd, *ours[2:]]), Choices()).contradictions


def test_a_baseline_that_is_not_consistent_accuses_nobody(
    ours: list[ParityAnswer], side: Sides
) -> None:
    """If the baseline's own texts are not those of its tokens, nothing is said."""
    plain = [replace(one, token_ids=None) for one in ours]
    odd = [replace(plain[0], text="other"), *plain[1:]]

    assert not judge(
        side(odd), side([plain[0], replace(plain[1], text="x"), *plain[2:]]), Choices()
    ).contradictions
