"""Checks of dspy: DSPy programs get complete answers to their own questions."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.dspy_driver import DSPyDriver, repeat_question, with_demos
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
DEMO_ANSWERS = ("birch", "maple", "cedar")  # no question asks for these
WORDS = ("ash", "oak", "elm")
CAP = 8


@rule("dspy.predict", tier=CORE, source="dspy 3.4.1: dspy/adapters/chat_adapter.py")
def predict(driver: DSPyDriver) -> None:
    """A Predict with demos, as optimizers make them, reads its field from the answer.

    A DSPy program reads other fields than the model wrote.
    """
    with driver.programs() as programs:
        result = programs.run(
            partial(_predict_with_demos(programs), question=repeat_question(answer="ash"))
        )
    _expect_text(result.answer)


@rule("dspy.chain_of_thought", tier=EXTENDED, source="dspy 3.4.1: dspy/predict/chain_of_thought.py")
def chain_of_thought(driver: DSPyDriver) -> None:
    """A ChainOfThought reads its reasoning and its answer from one text.

    A DSPy program loses the reasoning or takes it for the answer.
    """
    demos, fields = [_reasoning_fields(word) for word in DEMO_ANSWERS], _reasoning_fields("ash")
    with driver.programs() as programs:
        thinker = programs.dspy.ChainOfThought(QA)
        with_demos(thinker.predict, *demos)
        result = programs.run(partial(thinker, question=repeat_question(**fields)))
    _expect_text(result.reasoning)
    _expect_text(result.answer)


def _reasoning_fields(word: str) -> dict[str, str]:
    return {"reasoning": f"The {word} is a tree.", "answer": word}


@rule(
    "dspy.n",
    tier=EXTENDED,
    source="dspy 3.4.1: dspy/clients/lm.py: n goes to the server, from 3.4 on as n requests",
)
def n(driver: DSPyDriver) -> None:
    """A language model that is asked for two completions gives two.

    A DSPy program that asks for several completions gets one.
    """
    with driver.programs() as programs:
        # With greedy sampling vLLM refuses two choices.
        completions = programs.run(
            lambda: programs.lm("Say hello.", n=2, temperature=0.7, max_tokens=16)
        )
    expect_effect(
        len(completions) == 2, f"n=2 was accepted and gave {len(completions)} completions"
    )


@rule("dspy.usage", tier=EXTENDED, source="dspy 3.4.1: dspy/utils/usage_tracker.py")
def usage(driver: DSPyDriver) -> None:
    """The tokens of a program are those that the server counted: some, and a right sum.

    DSPy's track_usage reports nothing, or the usage of another call.
    """
    with driver.programs() as programs:
        result = programs.run(
            partial(_predict_with_demos(programs), question=repeat_question(answer="ash"))
        )
    counted: dict[str, Any] = next(iter(result.get_lm_usage().values()), {})
    prompt, completion = counted.get("prompt_tokens") or 0, counted.get("completion_tokens") or 0
    expect(prompt > 0 and completion > 0, f"no tokens are counted: {quote(counted)}")
    expect(counted.get("total_tokens") == prompt + completion, f"a wrong sum: {quote(counted)}")


@rule(
    "dspy.max_tokens",
    tier=EXTENDED,
    source="dspy 3.4.1: dspy/clients/lm.py: max_completion_tokens from 3.4 on",
)
def max_tokens(driver: DSPyDriver) -> None:
    """The max_tokens of a language model caps its answers, by whichever name DSPy sends it.

    DSPy's limit has no effect.
    """
    with driver.programs() as programs:
        programs.run(lambda: programs.lm("Count from 1 to 200.", max_tokens=CAP))
        (answer,) = programs.answers
    used = answer.usage.get("completion_tokens")
    if not used:
        raise Unmeasured("the answer has no usage")
    expect_effect(used <= CAP, f"max_tokens={CAP} was accepted and the answer has {used} tokens")
    if used < CAP:
        raise Unmeasured(f"the answer ended before the cap: {quote(answer.texts[0])}")


@rule("dspy.async", tier=EXTENDED, source="dspy 3.4.1: dspy/clients/lm.py: acall")
def concurrently(driver: DSPyDriver) -> None:
    """Three programs awaited at once each get the answer to their own question.

    Two asynchronous DSPy calls get each other's answers.
    """
    with driver.programs() as programs:
        answers = programs.run(lambda: asyncio.run(_gather(programs)))
    for word, answer in zip(WORDS, answers, strict=True):
        mixed_up = answer != word and answer in WORDS
        expect(not mixed_up, f"the question about {word!r} got the answer {answer!r}")
        _expect_text(answer)


async def _gather(programs: Programs) -> list[Any]:
    program = _predict_with_demos(programs)
    calls = [program.acall(question=repeat_question(answer=word)) for word in WORDS]
    return [result.answer for result in await asyncio.gather(*calls)]


@rule(
    "dspy.context_window",
    tier=EXTENDED,
    source="dspy 3.4.1: dspy/predict/react.py: shortens what it sends after "
    "ContextWindowExceededError",
)
def context_window(driver: DSPyDriver) -> None:
    """A prompt that is longer than the context reaches a program as ContextWindowExceededError.

    DSPy's agents cannot shorten a trajectory that has become too long, and fail.
    """
    with driver.programs() as programs:
        for words in (20_000, 200_000):
            try:
                programs.run(partial(programs.lm, "a " * words, max_tokens=1))
            except (Fail, Refused) as verdict:
                _expect_overflow(verdict)
                return
            _expect_read(programs, words)
    raise Unmeasured("the context holds 200000 words")


def _expect_overflow(verdict: Fail | Refused) -> None:
    name = type(verdict.__cause__).__name__
    if name != "ContextWindowExceededError":
        raise Fail(f"DSPy takes it for a {name}: {verdict}")


def _expect_read(programs: Programs, words: int) -> None:
    read = programs.answers[0].usage.get("prompt_tokens") or 0
    expect_effect(read >= words, f"of {words} words {read} tokens were read, the rest was cut")


def _predict_with_demos(programs: Programs) -> Any:
    return with_demos(programs.dspy.Predict(QA), *({"answer": word} for word in DEMO_ANSWERS))


def _expect_text(value: object) -> None:
    expect(isinstance(value, str) and value, f"a field without a text: {quote(value)}")
