"""Each kind of failure is an error of its own prompt."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    APITimeoutError,
    BadRequestError,
    ContextLengthError,
    InternalServerError,
    SamplingParams,
    UnexpectedResponseError,
)
from llmengine.vllm_local import runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import Engine

SHORT = SamplingParams(max_tokens=2)
ENDLESS = SamplingParams(max_tokens=10**6)


def test_a_prompt_that_is_too_long_fails_alone(engine: Engine) -> None:
    """It is not retried, and no usage is counted."""
    fine, long, also_fine = engine.results(["a", "too long", "b"], SHORT)
    assert fine.ok
    assert also_fine.ok
    assert isinstance(long.error, ContextLengthError)
    assert (long.attempts, long.uncounted) == (1, 0)


def test_wrong_sampling_is_a_bad_request(engine: Engine) -> None:
    """The message is vLLM's."""
    result = engine.results("a", SamplingParams(temperature=3.0))[0]
    assert type(result.error) is BadRequestError
    assert "temperature must not be 3.0" in str(result.error)


def test_an_answer_that_vllm_gave_up_is_tried_again(make_engine: Callable[..., Engine]) -> None:
    """Its error is an internal one of vLLM, which may pass."""
    result = make_engine(max_retries=1, retry_wait=0.001).results("broken", SHORT)[0]
    assert isinstance(result.error, InternalServerError)
    assert result.attempts == 2


def test_an_answer_that_cannot_be_read_fails_alone(engine: Engine, stand_in: Any) -> None:
    """It is aborted, and the others go on."""
    with pytest.raises(UnexpectedResponseError, match="TypeError"):
        list(engine.stream("odd", ENDLESS))
    assert engine.results("y", SHORT)[0].ok
    assert stand_in.loaded[-1].llm_engine.aborted == ["odd"]


def test_the_death_of_vllm_ends_all_calls(engine: Engine, stand_in: Any) -> None:
    """They are not retried; the next call loads the model again."""
    results = engine.results(["a", "die", "b"], SHORT)
    assert {type(r.error) for r in results} == {InternalServerError}
    assert {r.attempts for r in results} == {1}
    assert "RuntimeError: out of memory" in str(results[0].error)
    dead = stand_in.loaded[-1]
    assert dead.llm_engine.is_shut_down
    assert engine.results("a", SHORT)[0].ok
    assert stand_in.loaded[-1] is not dead


def test_a_failure_does_not_hold_the_model(engine: Engine, stand_in: Any) -> None:
    """A kept error keeps no memory of the device in use."""
    results = engine.results("die", SHORT)
    dead = weakref.ref(stand_in.loaded.pop())
    gc.collect()
    assert dead() is None
    assert not results[0].ok


def test_the_death_of_vllms_own_process_is_noticed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed process sends nothing, but its callers get an error."""
    monkeypatch.setattr(runtime, "_WATCH_SECONDS", 0.01)
    result = engine.results("vanish", SHORT)[0]
    assert isinstance(result.error, InternalServerError)
    assert "has ended" in str(result.error)


def test_a_call_that_takes_too_long_is_aborted(
    make_engine: Callable[..., Engine], stand_in: Any, clock: Any
) -> None:
    """The work on it stops, and other calls go on."""
    engine = make_engine(timeout=60)
    with clock.passing(5):
        result = engine.results("x", ENDLESS)[0]
    assert isinstance(result.error, APITimeoutError)
    assert (result.error.clock, result.attempts) == ("total", 1)
    assert engine.results("y", SHORT)[0].ok
    assert stand_in.loaded[-1].llm_engine.aborted == ["x"]


def test_a_call_without_a_time_limit_has_none(engine: Engine) -> None:
    """The default has no limit, because the wait for vLLM's scheduler would count."""
    assert engine.backend.clocks.total is None


def test_a_cancelled_call_is_aborted(engine: Engine, stand_in: Any) -> None:
    """Other calls go on."""

    async def cancel_one() -> Any:
        call = asyncio.create_task(engine.agenerate("x", ENDLESS))
        await engine.agenerate("y", SHORT)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return await engine.agenerate("z", SHORT)

    asyncio.run(cancel_one())
    llm_engine = stand_in.loaded[-1].llm_engine
    assert llm_engine.aborted == ["x"]
    assert llm_engine.steps[-1] == ["z"]


def test_a_stream_that_is_left_is_aborted(engine: Engine, stand_in: Any) -> None:
    """A reader who stops reading stops the work."""
    answer = engine.stream("x", ENDLESS)
    assert [next(answer).text, next(answer).text] == ["", "one "]
    answer.close()
    engine.generate("y", SHORT)
    assert stand_in.loaded[-1].llm_engine.aborted == ["x"]
