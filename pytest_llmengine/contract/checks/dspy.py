"""Checks of dspy: DSPy programs get complete answers to their own questions."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.dspy_driver import DSPyDriver, rehearsed, repeating
from pytest_llmengine.contract.outcomes import (
    Fail,
    Refused,
    Unmeasured,
    expect,
    expect_effect,
    quote,
)
from pytest_llmengine.contract.registry import CORE, EXTENDED, QUIRK, check

if TYPE_CHECKING:
    from pytest_llmengine.contract.dspy_driver import Programs

rule = partial(check, group="dspy", level=QUIRK, driver=DSPyDriver)

QA = "question -> answer"
SHOWN = ("birch", "maple", "cedar")  # no question asks for these
ASKED = ("ash", "oak", "elm")
CAP = 8


@rule("dspy.predict", tier=CORE, source="dspy.Predict over ChatAdapter, with demos as its turns")
def predict(driver: DSPyDriver) -> None:
    """A Predict with demos, as optimizers make them, reads its field from the answer."""
    with driver.programs() as made:
        said = made.run(partial(_repeater(made), question=repeating(answer="ash")))
    _expect_text(said.answer)


@rule("dspy.chain_of_thought", tier=EXTENDED, source="dspy.ChainOfThought over ChatAdapter")
def chain_of_thought(driver: DSPyDriver) -> None:
    """A ChainOfThought reads its reasoning and its answer from one text."""
    shown, asked = [_reasoned(word) for word in SHOWN], _reasoned("ash")
    with driver.programs() as made:
        thinker = made.dspy.ChainOfThought(QA)
        rehearsed(thinker.predict, *shown)
        said = made.run(partial(thinker, question=repeating(**asked)))
    _expect_text(said.reasoning)
    _expect_text(said.answer)


def _reasoned(word: str) -> dict[str, str]:
    return {"reasoning": f"The {word} is a tree.", "answer": word}


@rule("dspy.n", tier=EXTENDED, source="dspy.LM: n goes to the server, from 3.4 on as n requests")
def n(driver: DSPyDriver) -> None:
    """A language model that is asked for two completions gives two."""
    with driver.programs() as made:
        # With greedy sampling vLLM refuses two choices.
        got = made.run(lambda: made.lm("Say hello.", n=2, temperature=0.7, max_tokens=16))
    expect_effect(len(got) == 2, f"n=2 was accepted and gave {len(got)} completions")


@rule("dspy.usage", tier=EXTENDED, source="dspy: Prediction.get_lm_usage, from the server's usage")
def usage(driver: DSPyDriver) -> None:
    """The tokens of a program are those that the server counted: some, and a right sum."""
    with driver.programs() as made:
        said = made.run(partial(_repeater(made), question=repeating(answer="ash")))
    counted: dict[str, Any] = next(iter(said.get_lm_usage().values()), {})
    prompt, completion = counted.get("prompt_tokens") or 0, counted.get("completion_tokens") or 0
    expect(prompt > 0 and completion > 0, f"no tokens are counted: {quote(counted)}")
    expect(counted.get("total_tokens") == prompt + completion, f"a wrong sum: {quote(counted)}")


@rule("dspy.max_tokens", tier=EXTENDED, source="dspy: max_completion_tokens from 3.4 on")
def max_tokens(driver: DSPyDriver) -> None:
    """The max_tokens of a language model caps its answers, by whichever name DSPy sends it."""
    with driver.programs() as made:
        made.run(lambda: made.lm("Count from 1 to 200.", max_tokens=CAP))
        (answer,) = made.answers
    used = answer.usage.get("completion_tokens")
    if not used:
        raise Unmeasured("the answer has no usage")
    expect_effect(used <= CAP, f"max_tokens={CAP} was accepted and the answer has {used} tokens")
    if used < CAP:
        raise Unmeasured(f"the answer ended before the cap: {quote(answer.texts[0])}")


@rule("dspy.async", tier=EXTENDED, source="dspy: acall under asyncio.gather")
def concurrently(driver: DSPyDriver) -> None:
    """Three programs awaited at once each get the answer to their own question."""
    with driver.programs() as made:
        said = made.run(lambda: asyncio.run(_asked_at_once(made)))
    for word, answer in zip(ASKED, said, strict=True):
        mixed_up = answer != word and answer in ASKED
        expect(not mixed_up, f"the question about {word!r} got the answer {answer!r}")
        _expect_text(answer)


async def _asked_at_once(made: Programs) -> list[Any]:
    program = _repeater(made)
    asked = [program.acall(question=repeating(answer=word)) for word in ASKED]
    return [said.answer for said in await asyncio.gather(*asked)]


@rule(
    "dspy.context_window",
    tier=EXTENDED,
    source="dspy: ReAct shortens what it sends when it sees ContextWindowExceededError",
)
def context_window(driver: DSPyDriver) -> None:
    """A prompt that is longer than the context reaches a program as ContextWindowExceededError."""
    with driver.programs() as made:
        for words in (20_000, 200_000):
            try:
                made.run(partial(made.lm, "a " * words, max_tokens=1))
            except (Fail, Refused) as verdict:
                _expect_overflow(verdict)
                return
            _expect_read(made, words)
    raise Unmeasured("the context holds 200000 words")


def _expect_overflow(verdict: Fail | Refused) -> None:
    seen = type(verdict.__cause__).__name__
    if seen != "ContextWindowExceededError":
        raise Fail(f"DSPy takes it for a {seen}: {verdict}")


def _expect_read(made: Programs, words: int) -> None:
    read = made.answers[0].usage.get("prompt_tokens") or 0
    expect_effect(read >= words, f"of {words} words {read} tokens were read, the rest was cut")


def _repeater(made: Programs) -> Any:
    return rehearsed(made.dspy.Predict(QA), *({"answer": word} for word in SHOWN))


def _expect_text(value: object) -> None:
    expect(isinstance(value, str) and value, f"a field without a text: {quote(value)}")
