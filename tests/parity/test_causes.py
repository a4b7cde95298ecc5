"""Differences of setup are named as such, and never taken for another computation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.parity import Choices, ParityError, ParityVerdict, judge
from pytest_llmengine.parity.causes import Standing
from pytest_llmengine.parity.setup import Facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.parity import ParityPrompt, Side
    from pytest_llmengine.parity.answers import ParityAnswer

    Answers = Callable[..., ParityAnswer]
    Sides = Callable[..., Side]

KNOWN = {
    "engine": "vLLM",
    "version": "0.32.0",
    "weights": "small",
    "dtype": "float32",
    "prefix_caching": "on",
    "batch_invariance": "off",
}


def standings(baseline: Side, candidate: Side, *allowed: str) -> dict[str, Standing]:
    """The state of each cause."""
    return {c.name: c.standing for c in judge(baseline, candidate, Choices(allowed=allowed)).causes}


def test_what_is_known_to_be_equal_is(answer: Answers, side: Sides) -> None:
    """If two sides give all facts and these are equal, no cause is unknown."""
    cut = answer("a b c d e f g h", finish_reason="length")

    found = standings(side([cut], **KNOWN), side([cut], **KNOWN))

    assert found.pop("generation_config") is Standing.PINNED
    assert set(found.values()) == {Standing.EQUAL}


@pytest.mark.parametrize(
    ("cause", "fact", "other"),
    [
        ("model", "weights", "large"),
        ("version", "version", "0.31.0"),
        ("version", "engine", "llama.cpp"),
        ("dtype", "dtype", "bfloat16"),
        ("prefix_caching", "prefix_caching", "off"),
        ("batch_invariance", "batch_invariance", "on"),
    ],
)
def test_another_setup_is_a_mismatch(
    answer: Answers, side: Sides, cause: str, fact: str, other: str
) -> None:
    """The reason has the cause and both values; the answers are compared only if allowed."""
    baseline, candidate = side([answer()], **KNOWN), side([answer()], **{**KNOWN, fact: other})

    report = judge(baseline, candidate, Choices())

    assert report.verdict is ParityVerdict.NONE
    assert report.reason.startswith(f"mismatch of {cause} (")
    assert str(KNOWN[fact]) in report.reason
    assert other in report.reason
    assert report.pairs == ()
    allowed = judge(baseline, candidate, Choices(allowed=(cause,)))
    assert allowed.verdict is ParityVerdict.EQUAL
    assert standings(baseline, candidate, cause)[cause] is Standing.ALLOWED


@pytest.mark.parametrize(
    ("cause", "fact"),
    [
        ("model", "weights"),
        ("version", "version"),
        ("dtype", "dtype"),
        ("prefix_caching", "prefix_caching"),
        ("batch_invariance", "batch_invariance"),
    ],
)
@pytest.mark.parametrize("who", ["baseline", "candidate", "both"])
def test_what_a_side_does_not_tell_is_unknown(
    answer: Answers, side: Sides, cause: str, fact: str, who: str
) -> None:
    """A fact that is missing is never called equal, and forbids nothing."""
    silent = {**KNOWN, fact: None}
    baseline = side([answer()], **(KNOWN if who == "candidate" else silent))
    candidate = side([answer()], **(KNOWN if who == "baseline" else silent))

    assert standings(baseline, candidate)[cause] is Standing.UNKNOWN
    assert judge(baseline, candidate, Choices()).verdict is ParityVerdict.EQUAL


def test_a_name_does_not_prove_the_weights(answer: Answers, side: Sides) -> None:
    """Another served name is a mismatch; the same name may stand for any weights."""
    named = {**KNOWN, "weights": None}
    ours = side([answer()], **named, model="m")

    assert standings(ours, ours)["model"] is Standing.UNKNOWN
    other = side([answer()], **named, model="n")
    assert standings(ours, other)["model"] is Standing.MISMATCH


def test_the_build_is_not_part_of_the_version(answer: Answers, side: Sides) -> None:
    """0.32.0+cpu is 0.32.0."""
    built = side([answer()], **{**KNOWN, "version": "0.32.0+cpu"})

    assert standings(built, side([answer()], **KNOWN))["version"] is Standing.EQUAL


@pytest.mark.parametrize(
    ("ours", "theirs", "standing"),
    [
        ({}, {}, Standing.EQUAL),
        ({}, {"prompt_token_ids": (1, 2, 9)}, Standing.MISMATCH),
        ({}, {"prompt_token_ids": None}, Standing.UNKNOWN),
        ({}, {"prompt_token_ids": None, "prompt_tokens": 4}, Standing.MISMATCH),
        ({"prompt_token_ids": None, "prompt_tokens": None}, {}, Standing.UNKNOWN),
    ],
)
def test_the_template_is_seen_in_prompt_tokens(
    answer: Answers, side: Sides, ours: Any, theirs: Any, standing: Standing
) -> None:
    """Other ids or another count mean another template; equal counts prove nothing."""
    found = standings(side([answer(**ours)], **KNOWN), side([answer(**theirs)], **KNOWN))

    assert found["chat_template"] is standing


def sampled(answer: ParityAnswer) -> ParityAnswer:
    """The answer with a token that was not the likeliest."""
    assert answer.tokens is not None
    token = replace(answer.tokens[0], top=(*answer.tokens[0].top, ("likelier", -0.01)))
    return replace(answer, tokens=(token, *answer.tokens[1:]))


def test_sampling_shows_in_unlikely_tokens(answer: Answers, side: Sides) -> None:
    """A greedy answer has only the likeliest tokens; without log-probabilities this is unknown."""
    ours = side([answer()], **KNOWN)

    report = judge(ours, side([sampled(answer())], **KNOWN), Choices())

    assert report.verdict is ParityVerdict.NONE
    assert "the candidate did not choose its likeliest token in 1 of 1 answers: p1" in (
        report.reason
    )
    silent = side([answer(tokens=None)], **KNOWN)
    assert standings(ours, silent)["sampling"] is Standing.UNKNOWN


def test_a_constrained_answer_need_not_be_greedy(
    prompt: Callable[..., ParityPrompt], answer: Answers, side: Sides
) -> None:
    """A grammar may forbid the likeliest token."""
    asked = [prompt(schema={"type": "object"}), prompt(2)]
    ours = side([sampled(answer()), answer(number=2)], asked, **KNOWN)

    assert standings(ours, ours)["sampling"] is Standing.EQUAL


def test_an_override_of_the_configuration_is_a_mismatch(answer: Answers, side: Sides) -> None:
    """The value that an engine's configuration sends instead of the fixed one is known."""
    hot = side([answer()], **KNOWN, overrides={"temperature": 0.7})

    report = judge(side([answer()], **KNOWN), hot, Choices())

    assert report.verdict is ParityVerdict.NONE
    assert "temperature=0.7" in report.reason


@pytest.mark.parametrize(
    ("text", "finish", "standing"),
    [
        ("a b c d e f g h", "length", Standing.EQUAL),
        ("a b c d e f g", "length", Standing.MISMATCH),
        ("a b c d e f g h i", "length", Standing.MISMATCH),
        ("a b c d e f g h i", "stop", Standing.MISMATCH),
        ("a b c", "stop", Standing.UNKNOWN),
    ],
)
def test_another_limit_shows_where_answers_are_cut(
    answer: Answers, side: Sides, text: str, finish: str, standing: Standing
) -> None:
    """A cut answer has exactly as many tokens as were asked for: eight."""
    ours = side([answer("a b c d e f g h", finish_reason="length")], **KNOWN)

    found = standings(ours, side([answer(text, finish_reason=finish)], **KNOWN))

    assert found["max_tokens"] is standing


def test_the_context_is_named_where_it_cut(answer: Answers, side: Sides) -> None:
    """The reason says that an answer ended at the end of the context."""
    ours = side([answer("a b c d e f g h", finish_reason="length")], **KNOWN)
    small = side([answer("a b", finish_reason="length")], **KNOWN, context=5)

    assert "2 of 8 tokens, cut by the context of 5" in judge(ours, small, Choices()).reason


def test_other_prompts_are_never_compared(
    prompt: Callable[..., ParityPrompt], answer: Answers, side: Sides
) -> None:
    """Another limit in one prompt, or one more prompt, is named."""
    ours = side([answer(), answer(number=2)], **KNOWN)
    other = side([answer(), answer(number=2)], [prompt(), prompt(2, max_tokens=9)], **KNOWN)

    assert "or on one side only: p2)" in judge(ours, other, Choices()).reason
    assert "or on one side only: p2)" in judge(side([answer()], **KNOWN), ours, Choices()).reason


def test_a_person_can_state_what_a_server_does_not_tell() -> None:
    """Stated facts win and are marked; unknown names are an error that lists all."""
    facts = Facts(dtype="float16").with_stated(["dtype=bfloat16", "batch_invariance=on"])

    assert (facts.dtype, facts.batch_invariance) == ("bfloat16", "on")
    assert facts.stated == ("dtype", "batch_invariance")
    for wrong in ("colour=red", "dtype", "dtype="):
        with pytest.raises(ParityError, match="write name=value; the names are version, weights"):
            Facts().with_stated([wrong])
