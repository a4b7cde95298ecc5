"""Threads: which settings they use, and the settings that 2.4 keeps of ended threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.integrations.dspy import Generation, purge_dead_threads, to_lm
from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmengine import EngineConfig


def test_an_evaluation_asks_from_many_threads(
    dspy: Any, config: EngineConfig, answering: Callable[..., None], server: MockServer
) -> None:
    """Every example is answered once, by the engine of the caller's context."""
    answering(*[{"answer": "Paris"}] * 8)
    examples = [
        dspy.Example(question=f"q{i}", answer="Paris").with_inputs("question") for i in range(8)
    ]
    evaluate = pytest.importorskip("dspy.evaluate").Evaluate(
        devset=examples, metric=_same, num_threads=4, display_progress=False, display_table=0
    )
    purge_dead_threads()

    with dspy.settings.context(lm=to_lm(config)):
        score = evaluate(dspy.Predict("question -> answer"))

    assert getattr(score, "score", score) == 100.0
    assert len(server.calls) == 8


def _same(example: Any, prediction: Any, _trace: Any = None) -> bool:
    return bool(example.answer == prediction.answer)


def test_predictors_run_in_parallel(
    modern: Any, config: EngineConfig, answering: Callable[..., None]
) -> None:
    """dspy.Parallel has the answers in the order of the questions' count."""
    answering(*[{"answer": "Paris"}] * 4)
    predict = modern.Predict("question -> answer")
    pairs = [(predict, modern.Example(question=f"q{i}").with_inputs("question")) for i in range(4)]

    with modern.context(lm=to_lm(config)):
        found = modern.Parallel(num_threads=2, disable_progress_bar=True)(pairs)

    assert [prediction.answer for prediction in found] == ["Paris"] * 4


def test_one_model_serves_plain_threads(
    dspy: Any, config: EngineConfig, server: MockServer
) -> None:
    """A language model may be called in any thread."""
    assert dspy
    lm = to_lm(config)

    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda place: lm(f"Say the word: w{place}")[0], range(12)))

    assert texts == [f"w{place}" for place in range(12)]
    assert len(server.calls) == 12


@pytest.fixture
def stale(legacy: Any) -> Iterator[Callable[[], None]]:
    """Stores the present settings for ended threads; restores all settings afterwards."""
    before = dict(legacy.settings.stack_by_thread)

    def touch() -> None:
        thread = threading.Thread(target=lambda: legacy.settings.lm)
        thread.start()
        thread.join()

    yield touch
    legacy.settings.stack_by_thread.clear()
    legacy.settings.stack_by_thread.update(before)


def test_2_4_runs_new_threads_with_models_of_old_ones(
    legacy: Any, stale: Callable[[], None], aim: Callable[..., EngineConfig]
) -> None:
    """A new thread with the id of an ended one has the settings of the ended one."""
    with MockServer() as old, MockServer() as new:
        with _configured(legacy, to_lm(aim(old))):
            stale()
            left = len(legacy.settings.stack_by_thread)
        with _configured(legacy, to_lm(aim(new))):
            seen = _seen_by(legacy, next(iter(_dead(legacy))))
            assert seen.dspy_engine.engine.root_url == old.root_url

            assert purge_dead_threads() == left - 1

            assert not _dead(legacy)


class _configured:  # noqa: N801 - a context, read as a word
    """``dspy.settings.configure`` in the main thread, undone at the end."""

    def __init__(self, dspy: Any, lm: Any) -> None:
        self._dspy, self._lm = dspy, lm

    def __enter__(self) -> None:
        self._dspy.settings.configure(lm=self._lm)

    def __exit__(self, *exc_info: object) -> None:
        self._dspy.settings.main_stack.pop()


def _dead(dspy: Any) -> list[int]:
    alive = {thread.ident for thread in threading.enumerate()}
    return [ident for ident in dspy.settings.stack_by_thread if ident not in alive]


def _seen_by(dspy: Any, ident: int) -> Any:
    return dspy.settings.stack_by_thread[ident][-1]["lm"]


def test_later_dspys_have_nothing_to_purge(modern: Any) -> None:
    """The function does nothing on later versions."""
    assert modern
    assert purge_dead_threads() == 0


def test_a_context_holds_if_another_thread_configured(
    modern: Any, config: EngineConfig, answering: Callable[..., None], generation: Generation
) -> None:
    """The thread that configured first owns the settings; any thread may open its own context."""
    answering({"answer": "Paris"})
    assert generation is not Generation.LEGACY

    def ask() -> str:
        with modern.context(lm=to_lm(config)):
            return str(modern.Predict("question -> answer")(question="Where?").answer)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(ask).result() == "Paris"
