"""Async programs: many at once, each with its own model."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from llmengine.integrations.dspy import to_lm
from llmengine.mock import MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import EngineConfig


def test_a_program_is_awaited(
    modern: Any, config: EngineConfig, answering: Callable[..., None]
) -> None:
    """`acall` gives the same answer as a call."""
    answering({"reasoning": "It is known.", "answer": "Paris"})

    async def ask() -> Any:
        with modern.context(lm=to_lm(config)):
            return await modern.ChainOfThought("question -> answer").acall(question="Where?")

    assert asyncio.run(ask()).answer == "Paris"


def test_questions_are_asked_side_by_side(
    modern: Any, config: EngineConfig, answering: Callable[..., None], server: MockServer
) -> None:
    """Five calls that are awaited together are five requests and five answers."""
    answering(*({"answer": f"a{place}"} for place in range(5)))

    async def ask() -> list[Any]:
        predict = modern.Predict("question -> answer")
        with modern.context(lm=to_lm(config)):
            return await asyncio.gather(*(predict.acall(question=f"q{i}") for i in range(5)))

    answers = [prediction.answer for prediction in asyncio.run(ask())]

    assert sorted(answers) == [f"a{place}" for place in range(5)]
    assert len(server.calls) == 5


def test_tasks_keep_their_own_model(
    modern: Any, aim: Callable[..., EngineConfig], says: Callable[..., str]
) -> None:
    """Two tasks with two servers each use their own."""
    with MockServer() as here, MockServer() as there:
        here.play(Script(replies=[says(answer="here")] * 3))
        there.play(Script(replies=[says(answer="there")] * 3))

        async def ask(lm: Any) -> list[str]:
            with modern.context(lm=lm):
                predict = modern.Predict("question -> answer")
                return [(await predict.acall(question="Where?")).answer for _ in range(3)]

        async def both() -> list[list[str]]:
            return await asyncio.gather(*(ask(to_lm(aim(server))) for server in (here, there)))

        assert asyncio.run(both()) == [["here"] * 3, ["there"] * 3]
