"""What is handed to vLLM, and when: its scheduler is left to decide the rest."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmengine import Engine

SHORT = SamplingParams(max_tokens=2)
PROMPTS = [f"prompt {number}" for number in range(100)]


@pytest.fixture(autouse=True)
def _nervous_threads() -> Iterator[None]:
    """Threads take turns so often that one could take a batch prompt by prompt."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_a_batch_is_there_before_the_first_step(engine: Engine, stand_in: Any) -> None:
    """All prompts that arrive together are batched together, in order, as by LLM.chat.

    More than there are connections in a process, since none are used.
    """
    prompts = [f"prompt {number}" for number in range(1200)]
    engine.generate(prompts, SHORT)
    assert stand_in.loaded[-1].llm_engine.steps == [prompts, prompts]


def test_so_is_a_batch_that_came_while_the_model_was_loaded(engine: Engine, stand_in: Any) -> None:
    """A loaded model changes nothing."""
    engine.generate("first", SHORT)
    engine.generate(PROMPTS, SHORT)
    assert stand_in.loaded[-1].llm_engine.steps[2:] == [PROMPTS, PROMPTS]


def test_structured_answers_are_batched_together_too(engine: Engine, stand_in: Any) -> None:
    """The ladder of structured output asks nothing before."""
    engine.results(PROMPTS, SHORT, output_model=int, json_mode=False)
    assert stand_in.loaded[-1].llm_engine.steps[0] == PROMPTS


def test_a_configured_limit_is_kept(make_engine: Callable[..., Engine], stand_in: Any) -> None:
    """max_concurrency bounds what vLLM is given at once."""
    make_engine(max_concurrency=3).generate(PROMPTS, SHORT)
    steps = stand_in.loaded[-1].llm_engine.steps
    assert max(len(step) for step in steps) == 3


def test_a_window_bounds_what_is_started(engine: Engine, stand_in: Any) -> None:
    """Of prompts without end only a window is handed over; every answer comes, in order."""
    results = list(engine.iter_results(PROMPTS, SHORT, window=8))
    assert all(result.ok for result in results)
    assert [r.unwrap().prompt for r in results] == PROMPTS
    assert max(len(step) for step in stand_in.loaded[-1].llm_engine.steps) <= 8


def test_a_configured_limit_decides_the_window(make_engine: Callable[..., Engine]) -> None:
    """Without one there is room for vLLM to be busy."""
    assert make_engine(max_concurrency=3).backend.window == 6
    assert make_engine().backend.window > 1000
