"""The checker of the history of tagged requests: no answer of another goes unnoticed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pytest_llmengine.contract.history import (
    NOTHING_KNOWN,
    Signals,
    TaggedAnswer,
    delay,
    leaks,
    signals,
)

steady = settings(derandomize=True, deadline=None)  # no failure on a busy machine
FORMS = ("answers", "streams", "tool calls")


def answer(number: int, form: str = "answers", length: int = 1, **changes: object) -> TaggedAnswer:
    """The right answer to the request with this number."""
    tag = str(100_003 + 97 * number)
    text = " ".join([tag] * length)
    calls = form == "tool calls"
    own = TaggedAnswer(
        number,
        tag,
        form,
        length,
        texts=() if calls else (f"Repeat exactly: {text}",),
        arguments=(f'{{"code": "{tag}"}}',) if calls else (),
        logprobs=(f"Repeat exactly: {text}",) if form == "streams" else (),
        ids=(f"id-{number}",) * (3 if form == "streams" else 1),
        prompt_tokens=30 + 6 * length,
        forced=calls,
    )
    return replace(own, **changes)  # type: ignore[arg-type]


histories = st.lists(
    st.tuples(st.sampled_from(FORMS), st.integers(1, 3)), min_size=2, max_size=30
).map(lambda rows: [answer(number, form, length) for number, (form, length) in enumerate(rows)])
alone = [
    answer(900 + i, form, length)
    for i, (form, length) in enumerate(
        (form, length) for form in FORMS for length in (2, 1, 3, 1, 2)
    )
]
KNOWN = signals(alone)


@steady
@given(histories)
def test_right_answers_do_not_leak(history: list[TaggedAnswer]) -> None:
    """A history in which each request got its own answer is clean."""
    assert leaks(history, KNOWN) == []
    assert leaks(history) == []


CONTENTS = ("texts", "arguments", "logprobs", "ids", "prompt_tokens")


@steady
@given(histories, st.data())
def test_two_answers_that_are_swapped_are_found(
    history: list[TaggedAnswer], data: st.DataObject
) -> None:
    """Any two answers that are swapped are found, also without any known signal."""
    one, other = data.draw(
        st.lists(st.sampled_from(range(len(history))), min_size=2, max_size=2, unique=True)
    )
    assume(history[one].form == history[other].form)
    mixed = list(history)
    for mine, theirs in ((one, other), (other, one)):
        contents = {name: getattr(history[theirs], name) for name in CONTENTS}
        mixed[mine] = replace(history[mine], **contents)
    assert {leak.answer.number for leak in leaks(mixed)} == {one, other}


@steady
@given(histories, st.integers(1, 3))
def test_the_answers_of_earlier_callers_are_found(history: list[TaggedAnswer], late: int) -> None:
    """If each caller gets an earlier caller's answer, all but the first answers are found."""
    assume(len(history) > late)
    moved = [
        replace(now, texts=before.texts, arguments=before.arguments, logprobs=before.logprobs)
        for before, now in zip(history, history[late:], strict=False)
    ]
    assert len(leaks([*history[:late], *moved])) == len(moved)


@pytest.mark.parametrize(
    ("form", "part"),
    [("tool calls", "arguments"), ("streams", "logprobs"), ("answers", "prompt_tokens")],
)
def test_one_part_of_another_answer_is_found(form: str, part: str) -> None:
    """The arguments, log-probabilities or prompt_tokens of another are found each on their own."""
    history = [answer(number, form, 1 + number % 3) for number in range(6)]
    mixed = [*history[:4], replace(history[4], **{part: getattr(history[2], part)}), history[5]]
    assert [leak.answer.number for leak in leaks(mixed, KNOWN)] == [4]


@pytest.mark.parametrize("late", [1, 2, 3])
def test_prompt_tokens_of_earlier_requests_are_a_delay(late: int) -> None:
    """Counts that come late by some requests are told from counts that say nothing."""
    own = [
        answer(number, "answers", length) for number, length in enumerate((2, 1, 3, 1, 2, 3, 1, 2))
    ]
    counts = [50] * late + [a.prompt_tokens for a in own]
    moved = [replace(a, prompt_tokens=c) for a, c in zip(own, counts, strict=False)]
    assert (delay(own), delay(moved)) == (0, late)


@steady
@given(st.integers(1, 99) | st.none())
def test_constant_usage_says_nothing(tokens: int | None) -> None:
    """A server that reports the same usage for each prompt, or none, is not accused of a delay."""
    same = [replace(a, prompt_tokens=tokens) for a in alone]
    assert delay(same) == 0
    assert not signals(same).tokens


def test_a_model_that_does_not_echo_shows_nothing() -> None:
    """Without tags and without counts there is no signal, and no server is accused."""
    mute = [replace(a, texts=("I am here to help.",), arguments=(), prompt_tokens=9) for a in alone]
    assert not signals([replace(a, logprobs=()) for a in mute])
    assert leaks(mute, signals(mute)) == []


def test_a_few_lost_tags_are_the_models_mistakes() -> None:
    """Some answers without their tag are accepted, and many are not."""
    history = [answer(number) for number in range(20)]
    lost = [replace(a, texts=("The sea is calm.",)) for a in history]
    assert leaks([*lost[:3], *history[3:]], KNOWN) == []
    assert {leak.reason for leak in leaks([*lost[:9], *history[9:]], KNOWN)} == {
        "does not hold its tag, which it does alone"
    }


def test_a_forced_answer_without_its_tag_is_found_at_once() -> None:
    """Where only one answer is allowed, one that lacks it is wrong; one that was cut is not."""
    history = [answer(number, "tool calls") for number in range(8)]
    empty = replace(history[3], arguments=("{}",))
    assert [leak.answer.number for leak in leaks([*history[:3], empty, *history[4:]], KNOWN)] == [3]
    cut = replace(empty, ended=False)
    assert leaks([*history[:3], cut, *history[4:]], KNOWN) == []


def test_interleaved_streams_have_several_ids() -> None:
    """A stream with chunks of another one is found by the ids of its chunks."""
    history = [answer(0, "streams"), answer(1, "streams", ids=("id-1", "id-0", "id-1"))]
    assert [leak.answer.number for leak in leaks(history, KNOWN)] == [1]
    assert leaks(history, replace(KNOWN, ids=False)) == []


def test_the_tag_of_a_client_that_went_away_is_named() -> None:
    """The reason says that the other client had cancelled its request."""
    gone = answer(0, ended=False, texts=())
    poisoned = answer(1, texts=(f"Repeat exactly: {gone.tag}",))
    (leak,) = leaks([gone, poisoned])
    assert leak.reason == "holds the tag of another request, whose client went away"


def test_signals_say_what_they_are() -> None:
    """The signals that were used can be printed."""
    assert str(KNOWN) == (
        "the tag in answers, the tag in streams, the tag in tool calls, prompt_tokens, "
        "the tokens of log-probabilities, the ids of chunks"
    )
    assert str(NOTHING_KNOWN) == "nothing"
    assert bool(Signals(tokens={("answers", 1): range(3)}))
