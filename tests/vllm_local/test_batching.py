"""Which prompts vLLM gets and when, so that its scheduler can batch them."""

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
def _frequent_thread_switches() -> Iterator[None]:
    """Threads switch so often that a batch could be taken prompt by prompt."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_a_batch_is_there_before_the_first_step(engine: Engine, stand_in: Any) -> None:
    """All prompts that arrive together are batched in order, as by LLM.chat.

    There are more of them than a process has connections, which are not used here.
    """
    prompts = [f"prompt {number}" for number in range(1200)]
    engine.generate(prompts, SHORT)
    assert stand_in.loaded[-1].llm_engine.steps == [prompts, prompts]


def test_a_batch_that_came_while_the_model_was_loaded(engine: Engine, stand_in: Any) -> None:
    """It is batched in the same way."""
    engine.generate("first", SHORT)
    engine.generate(PROMPTS, SHORT)
    assert stand_in.loaded[-1].llm_engine.steps[2:] == [PROMPTS, PROMPTS]


def test_structured_answers_are_batched_together_too(engine: Engine, stand_in: Any) -> None:
    """Structured output sends no probe before."""
    engine.results(PROMPTS, SHORT, output_model=int, json_mode=False)
    assert stand_in.loaded[-1].llm_engine.steps[0] == PROMPTS


def test_a_configured_limit_is_kept(make_engine: Callable[..., Engine], stand_in: Any) -> None:
    """max_concurrency limits how many prompts vLLM has at once."""
    make_engine(max_concurrency=3).generate(PROMPTS, SHORT)
    steps = stand_in.loaded[-1].llm_engine.steps
    assert max(len(step) for step in steps) == 3


def test_a_window_bounds_what_is_started(engine: Engine, stand_in: Any) -> None:
    """Of endless prompts vLLM gets only a window; every answer comes, in order."""
    results = list(engine.iter_results(PROMPTS, SHORT, window=8))
    assert all(result.ok for result in results)
    assert [r.unwrap().prompt for r in results] == PROMPTS
    assert max(len(step) for step in stand_in.loaded[-1].llm_engine.steps) <= 8


def test_a_configured_limit_decides_the_window(make_engine: Callable[..., Engine]) -> None:
    """The default window is large enough to keep vLLM busy."""
    assert make_engine(max_concurrency=3).backend.window == 6
    assert make_engine().backend.window > 1000
