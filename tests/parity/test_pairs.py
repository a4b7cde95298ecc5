"""Two answers to one prompt: where they begin to differ, and by how much."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.parity.answers import Token
from pytest_llmengine.parity.pairs import Calls, Divergence, DivergingToken, Pair, Status, pair_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.parity import ParityPrompt
    from pytest_llmengine.parity.answers import ParityAnswer

    Prompts = Callable[..., ParityPrompt]
    Answers = Callable[..., ParityAnswer]


def test_equal_answers_are_the_same(prompt: Prompts, answer: Answers) -> None:
    """The difference of log-probabilities is measured too."""
    pair = pair_of(prompt(), answer(), answer(logprobs=[-0.1, -0.3, -0.1]))

    assert (pair.status, pair.divergence, pair.same_text) == (Status.SAME, None, True)
    assert pair.difference == 0.2


def test_where_answers_part(prompt: Prompts, answer: Answers) -> None:
    """The position is in tokens, with each side's token and its rank on the other side."""
    pair = pair_of(prompt(), answer("one two three"), answer("one other three"))

    assert pair.divergence == Divergence(
        1, "token", DivergingToken("two", -0.1, rank=None), DivergingToken("other", -0.1, rank=2)
    )
    assert not pair.within_top


def test_the_end_of_an_answer_is_a_place(prompt: Prompts, answer: Answers) -> None:
    """An answer that goes on differs from one that ends there."""
    pair = pair_of(prompt(), answer("one two"), answer("one two three"))

    assert pair.status is Status.DIVERGED
    assert pair.divergence.position == 2
    assert (pair.divergence.baseline.token, pair.divergence.candidate.token) == (None, "three")


def test_without_ids_the_text_is_compared(prompt: Prompts, answer: Answers) -> None:
    """Then the position is in characters."""
    pair = pair_of(prompt(), answer("one two", token_ids=None), answer("one too"))

    assert pair.divergence == Divergence(5, "character", DivergingToken("w"), DivergingToken("o"))


def test_another_text_of_the_same_tokens_is_not_the_same(prompt: Prompts, answer: Answers) -> None:
    """A gateway cut the text and left the token ids and the log-probabilities as they were."""
    cut = replace(answer(logprobs=[-0.1, -0.2, -0.1]), text="one two")
    pair = pair_of(prompt(), answer(), cut)

    assert (pair.status, pair.same_text) == (Status.DIVERGED, False)
    assert pair.divergence == Divergence(7, "character", DivergingToken(" "), DivergingToken(None))
    assert pair.difference == 0.1


@pytest.mark.parametrize("parts", [{"tool_calls": (("f", "{}"),)}, {"reasoning": "one two"}])
def test_calls_and_reasoning_may_be_in_the_text_of_one_side(
    prompt: Prompts, answer: Answers, parts: dict[str, Any]
) -> None:
    """A server takes them out of the text, and vLLM in this process does not."""
    pair = pair_of(prompt(), answer(), replace(answer(), text="three", **parts))

    assert (pair.status, pair.same_text) == (Status.SAME, False)


def test_other_tokens_with_the_same_text_are_not_the_same(prompt: Prompts, answer: Answers) -> None:
    """Token ids decide if both sides have them."""
    pair = pair_of(prompt(), answer(), answer(token_ids=(1, 2, 3)))

    assert (pair.status, pair.same_text) == (Status.DIVERGED, True)


def test_behind_the_parting_nothing_is_measured(prompt: Prompts, answer: Answers) -> None:
    """After different tokens the two sides answer different questions."""
    ours, theirs = answer("a b c"), answer("a x c", logprobs=[-0.1, -5.0, -9.0])

    assert pair_of(prompt(), ours, theirs).difference == 0.0
    assert pair_of(prompt(), answer("a"), answer("x")).difference is None
    unnamed = answer("a x c", token_ids=None, logprobs=[-0.1, -5.0, -9.0])
    assert pair_of(prompt(), ours, unnamed).difference == 0.0
    spelt_alike = answer("a b c", token_ids=(97, 0, 0), logprobs=[-0.1, -5.0, -9.0])
    assert pair_of(prompt(), ours, spelt_alike).difference == 0.0
    assert pair_of(prompt(), ours, answer("a b c", tokens=None)).difference is None


@pytest.mark.parametrize(
    ("ours", "theirs", "status"),
    [
        (None, "BadRequestError: no", Status.ONE_FAILED),
        ("BadRequestError: no", None, Status.ONE_FAILED),
        ("BadRequestError: no", "BadRequestError: no", Status.BOTH_FAILED),
    ],
)
def test_a_failure_is_not_an_answer(
    prompt: Prompts, answer: Answers, ours: str | None, theirs: str | None, status: Status
) -> None:
    """The status says which side of a prompt failed, or that both did."""
    pair = pair_of(prompt(), answer(error=ours), answer(error=theirs))

    assert (pair.status, pair.compared) == (status, False)


@pytest.mark.parametrize(
    ("ours", "theirs", "calls"),
    [
        ([("f", '{"a": 1, "b": 2}')], [("f", '{"b":2,"a":1}')], Calls(1, 1, 1)),
        ([("f", '{"a": 1}')], [("f", '{"a": 2}')], Calls(0, 1, 1)),
        ([("f", "{"), ("f", "{")], [("f", "{")], Calls(1, 2, 1)),
        ([], [("g", "{}")], Calls(0, 0, 1)),
        (None, [("g", "{}")], None),
    ],
)
def test_calls_match_by_name_and_value(
    prompt: Prompts, answer: Answers, ours: Any, theirs: Any, calls: Calls | None
) -> None:
    """The order of keys does not matter; calls in the text of one side cannot be matched."""
    pair = pair_of(prompt(), answer(tool_calls=ours), answer(tool_calls=theirs))

    assert pair.calls == calls


def test_calling_is_stopping_where_a_side_leaves_calls_in_the_text(
    prompt: Prompts, answer: Answers
) -> None:
    """Finish reasons are compared by the values that both sides have."""
    calling = answer(finish_reason="tool_calls", tool_calls=())

    assert pair_of(prompt(), answer(), calling).finish_reasons == ("stop", "stop")
    both = pair_of(prompt(), answer(tool_calls=()), calling)
    assert both.finish_reasons == ("stop", "tool_calls")


@pytest.mark.parametrize("theirs", ["one two three", "one other three", "one"])
def test_a_pair_survives_json(prompt: Prompts, answer: Answers, theirs: str) -> None:
    """The saved noise floor has what was measured."""
    pair = pair_of(prompt(), answer(), answer(theirs, tool_calls=(), valid=True))

    assert Pair.from_dict(pair.to_dict()) == pair


def test_a_rank_is_a_place_by_likelihood() -> None:
    """Servers put the chosen token first, likely or not."""
    token = Token("chosen", -2.0, (("chosen", -2.0), ("best", -0.2), ("second", -1.9)))

    assert [token.rank_of(text) for text in ("best", "second", "chosen", "x")] == [1, 2, 3, None]
    assert token.best == -0.2
