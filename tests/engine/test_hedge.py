"""A fallback that gives a prompt to a second engine too if the first one takes unusually long."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from llmengine import (
    APITimeoutError,
    Delta,
    EngineConfig,
    FallbackConfig,
    InvalidFieldError,
    Result,
)
from llmengine.engine.hedge import (
    HedgedCall,
    HedgePolicy,
    StreamChoice,
    cancel_running,
    first_final,
)
from llmengine.mock import Fault, MockReply, MockServer, Script
from llmengine.telemetry.usage import meter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmengine.engine.call import CallObserver
    from llmengine.engine.fallback import FallbackEngine

HANG = 60
STALL = Fault(stall_after=0)
NO_CLOCKS = {"connect": None, "total": None}


class SlowServer(NamedTuple):
    """A server that was ``asked`` for an answer, and gives it once it is ``released``."""

    url: str
    asked: threading.Event
    released: threading.Event


@pytest.fixture
def slow(raw_server: Any, chat: Any) -> SlowServer:
    """A server that answers once it is released."""
    asked, released = threading.Event(), threading.Event()

    def answer(_request: Any, connection: Any) -> None:
        asked.set()
        released.wait(HANG)
        connection.reply(chat())

    return SlowServer(raw_server(answer).url, asked, released)


class Pair(NamedTuple):
    """Two servers, and a function that makes a fallback of their engines."""

    first: MockServer
    second: MockServer
    engine: Callable[..., FallbackEngine]


@pytest.fixture
def pair(clock: Any) -> Iterator[Pair]:
    """Two servers and engines without time limits, on the clock that the test moves."""
    with ExitStack() as stack:
        servers = [stack.enter_context(MockServer()) for _ in range(2)]

        def make(of_first: Any = None, of_second: Any = None, **fields: Any) -> FallbackEngine:
            settings = {
                "backend": "openai_compatible",
                "model": "mock",
                "max_retries": 0,
                "timeout": NO_CLOCKS,
                "price": {"input": 1_000_000, "output": 1_000_000},
            }
            engines = []
            for name, server, own in zip(
                ("first", "second"), servers, (of_first, of_second), strict=True
            ):
                there = {"name": name, "endpoint": server.root_url}
                engines.append(EngineConfig(**{**settings, **there, **(own or {})}))
            given = {"hedge_after": 5, "hedge_budget": 1, **fields}
            return FallbackConfig(engines=engines, **given).engine

        yield Pair(*servers, make)


def test_second_engine_answers_for_a_slow_one(
    pair: Pair, clock: Any, in_thread: Any, wait_until: Any
) -> None:
    """The first call is cancelled, and what it may have cost is not known."""
    pair.first.play(Script(faults=[STALL]))
    before = meter.snapshot()

    run = in_thread(pair.engine().results, "Hello")
    wait_until(lambda: pair.first.calls)
    clock.settle()
    assert not pair.second.calls
    clock.advance(6)
    (result,) = run.result(HANG)

    assert (result.engine, result.attempts, result.uncounted) == ("second", 2, 1)
    assert result.cost is None
    used = {who.engine: totals for who, totals in (meter.snapshot() - before).engines.items()}
    assert (used["first"].cancelled, used["first"].uncounted) == (1, 1)
    assert used["second"].cost == result.usage.total_tokens


def test_first_engine_may_still_answer(
    pair: Pair, slow: SlowServer, clock: Any, in_thread: Any, wait_until: Any
) -> None:
    """The call that ends first counts, and the other one is cancelled."""
    pair.second.play(Script(faults=[STALL]))
    engine = pair.engine({"endpoint": slow.url})

    run = in_thread(engine.results, "Hello")
    slow.asked.wait(HANG)
    clock.settle()
    clock.advance(6)
    wait_until(lambda: pair.second.calls)
    slow.released.set()
    (result,) = run.result(HANG)

    assert (result.engine, result.attempts, result.uncounted) == ("first", 2, 1)


def test_failure_of_one_call_leaves_the_other(
    pair: Pair, slow: SlowServer, clock: Any, in_thread: Any, wait_until: Any
) -> None:
    """The second engine is waited for if the first one fails in the meantime."""
    pair.first.play(Script(faults=[STALL]))
    engine = pair.engine({"timeout": {"connect": None, "total": 10}}, {"endpoint": slow.url})
    before = meter.snapshot()

    def failed() -> int:
        return sum(totals.failed for totals in (meter.snapshot() - before).engines.values())

    run = in_thread(engine.results, "Hello")
    wait_until(lambda: pair.first.calls)
    clock.settle()
    clock.advance(6)
    slow.asked.wait(HANG)
    clock.advance(6)
    wait_until(failed)
    slow.released.set()
    (result,) = run.result(HANG)

    assert (result.engine, result.attempts) == ("second", 2)


def test_busy_engine_gets_no_hedge(
    pair: Pair, clock: Any, in_thread: Any, wait_until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A second engine without a free place is not asked."""
    pair.first.play(Script(faults=[STALL]))
    pair.second.play(Script(faults=[STALL]))
    timeout = {"connect": None, "total": 30}
    engine = pair.engine({"timeout": timeout}, {"max_concurrency": 1}, errors=[])

    caplog.set_level("INFO", "llmengine")
    busy = in_thread(engine.engines[1].results, "Hi")
    wait_until(lambda: pair.second.calls)
    run = in_thread(engine.results, "Hello")
    wait_until(lambda: pair.first.calls)
    clock.settle()
    clock.advance(40)
    (result,) = run.result(HANG)

    assert isinstance(result.error, APITimeoutError)
    assert (result.engine, result.attempts) == ("first", 1)
    assert "is asked too" not in caplog.text
    pair.second.stop()
    assert not busy.result(HANG)[0].ok


def test_percentile_is_learned_from_the_answers(pair: Pair) -> None:
    """Time stands still, so each answer takes no time, and any wait is unusually long."""
    pair.first.play(Script(faults=[*[None] * 20, STALL]))
    engine = pair.engine(hedge_after="p95", hedge_budget=0.05)

    results = [engine.results("Hello")[0] for _ in range(21)]

    assert [result.engine for result in results] == ["first"] * 20 + ["second"]
    assert [result.attempts for result in results] == [1] * 20 + [2]


def test_prompt_over_the_budget_gets_no_hedge(pair: Pair, clock: Any) -> None:
    """With a budget of a half, it is the second prompt that is hedged."""
    pair.first.play(Script(faults=[STALL, STALL]))
    timeout = {"connect": None, "total": 30}
    engine = pair.engine({"timeout": timeout}, errors=[], hedge_budget=0.5)

    with clock.passing(1):
        results = [engine.results("Hello")[0] for _ in range(2)]

    assert [(result.engine, result.attempts) for result in results] == [("first", 1), ("second", 2)]


def test_cancelled_call_cancels_both(pair: Pair, clock: Any, wait_until: Any) -> None:
    """Both requests are counted as cancelled."""
    pair.first.play(Script(faults=[STALL]))
    pair.second.play(Script(faults=[STALL]))
    before = meter.snapshot()

    async def story() -> None:
        task = asyncio.create_task(pair.engine().aresults("Hello"))
        await asyncio.to_thread(wait_until, lambda: pair.first.calls)
        await asyncio.to_thread(clock.settle)
        clock.advance(6)
        await asyncio.to_thread(wait_until, lambda: pair.second.calls)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())

    def cancelled() -> dict[str, int]:
        used = (meter.snapshot() - before).engines
        return {who.engine: totals.cancelled for who, totals in used.items()}

    wait_until(lambda: cancelled() == {"first": 1, "second": 1})


def test_stream_of_the_second_engine_replaces_a_slow_one(
    pair: Pair, clock: Any, in_thread: Any, wait_until: Any
) -> None:
    """The time until the first content counts: the first engine has only sent the role."""
    pair.first.play(Script(replies=["one two"], faults=[Fault(stall_after=1)], optional=True))
    pair.second.play(Script(replies=["three four"], optional=True))
    before = meter.snapshot()

    run = in_thread(lambda: list(pair.engine().stream("Hello")))
    wait_until(lambda: pair.first.calls)
    clock.settle()
    clock.advance(6)
    deltas = run.result(HANG)

    assert "".join(delta.text for delta in deltas) == "three four"
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]
    used = {who.engine: totals for who, totals in (meter.snapshot() - before).engines.items()}
    assert (used["first"].cancelled, used["second"].failed) == (1, 0)


def test_slow_stream_is_cancelled_once_the_other_one_begins(
    pair: Pair, clock: Any, in_thread: Any, wait_until: Any
) -> None:
    """It does not wait for the end of the other one, which stalls here."""
    pair.first.play(Script(faults=[STALL]))
    pair.second.play(Script(replies=["three four"], faults=[Fault(stall_after=2)], optional=True))
    before = meter.snapshot()
    deltas = pair.engine().stream("Hello")

    run = in_thread(next, deltas)
    wait_until(lambda: pair.first.calls)
    clock.settle()
    clock.advance(6)
    assert run.result(HANG).text == "three"

    def cancelled() -> list[str]:
        used = (meter.snapshot() - before).engines
        return [who.engine for who, totals in used.items() if totals.cancelled]

    wait_until(lambda: cancelled() == ["first"])
    deltas.close()
    wait_until(lambda: cancelled() == ["first", "second"])


def test_stream_that_begins_in_time_is_not_hedged(
    pair: Pair, clock: Any, in_thread: Any, wait_until: Any
) -> None:
    """After its first content a stream may take any time, and the reader may go away."""
    pair.first.play(Script(replies=["one two"], faults=[Fault(stall_after=2)], optional=True))
    before = meter.snapshot()
    deltas = pair.engine().stream("Hello")

    text = next(deltas).text
    clock.advance(60)
    clock.settle()
    deltas.close()

    assert text == "one"
    assert not pair.second.calls

    def cancelled() -> bool:
        used = (meter.snapshot() - before).engines
        return [totals.cancelled for totals in used.values()] == [1]

    wait_until(cancelled)


@pytest.mark.parametrize("budget", [0.9, 1])
@pytest.mark.parametrize(("replies", "text"), [(["three"], "three"), ([MockReply("")], "")])
def test_stream_that_never_begins(
    pair: Pair, clock: Any, replies: list[Any], text: str, budget: float
) -> None:
    """The next engine's is read, beside it or after it, also if that one has no content."""
    pair.first.play(Script(faults=[Fault(stall_after=0)]))
    pair.second.play(Script(replies=replies, optional=True))
    timeout = {"connect": None, "total": None, "first_token": 30}
    engine = pair.engine({"timeout": timeout}, {"timeout": NO_CLOCKS}, hedge_budget=budget)

    with clock.passing(1):  # with 0.9, the first prompt is not hedged
        deltas = list(engine.stream("Hello"))

    assert "".join(delta.text for delta in deltas) == text
    assert deltas[-1].finish_reason or deltas[-1].usage


class Taken(list[Delta]):
    """A channel that keeps everything."""

    is_full = False

    def put(self, items: list[Delta]) -> None:
        """Add deltas."""
        self += items


def test_streams_are_not_mixed() -> None:
    """The first stream begins after the second one was chosen, and nothing of it is passed on."""
    taken = Taken()
    choice = StreamChoice(taken)
    first, second = choice.sink(0), choice.sink(1)

    first.put([Delta(prompt_token_ids=(1,))])
    second.put([Delta(prompt_token_ids=(2,))])
    assert taken == []
    second.put([Delta("a")])
    first.put([Delta("b")])
    second.put([Delta("c")])
    first.open()

    assert choice.chosen == 1
    assert [delta.text for delta in taken] == ["", "a", "c"]
    assert taken[0].prompt_token_ids == (2,)


class Ending(NamedTuple):
    """The end of a call in a test."""

    result: Result
    reason: str | None = None


def test_both_answers_in_the_same_moment_are_counted() -> None:
    """The first call's ending comes first, and nothing is left to cancel."""

    async def end(result: Result, _observer: CallObserver) -> Ending:
        return Ending(result)

    async def story() -> tuple[list[Ending], list[Result]]:
        results = [Result(attempts=1), Result(attempts=2)]
        calls = [
            HedgedCall[Ending](lambda observer, result=result: end(result, observer))
            for result in results
        ]
        await asyncio.sleep(0)
        return await first_final(calls), await cancel_running(calls)

    endings, spent = asyncio.run(story())

    assert [ending.result.attempts for ending in endings] == [1, 2]
    assert spent == []


def test_delay_is_a_percentile_of_enough_times() -> None:
    """It is unknown before there are twenty times, and for "p99" a hundred."""
    times = [float(number) for number in range(100, 0, -1)]

    assert HedgePolicy("p95", 1).delay(times) == 95
    assert HedgePolicy("p99", 1).delay(times) == 99
    assert HedgePolicy("p50", 1).delay(times[:20]) == 90
    assert HedgePolicy("p95", 1).delay(times[:19]) is None
    assert HedgePolicy("p99", 1).delay(times[:99]) is None
    assert HedgePolicy(2.5, 1).delay([]) == 2.5


def test_budget_is_a_share_of_the_prompts() -> None:
    """One hedge is allowed per twenty prompts, and ten at most after a long time without any."""
    policy = HedgePolicy(1.0, 0.05)

    def hedged() -> bool:
        policy.note_prompt()
        return policy.take()

    assert [place for place in range(1, 81) if hedged()] == [20, 40, 60, 80]
    for _ in range(1000):
        policy.note_prompt()
    assert sum(policy.take() for _ in range(20)) == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hedge_after": "95%"}, "hedge_after: is '95%'; give a number of seconds above 0, or"),
        ({"hedge_after": 0}, "hedge_after: is 0; give a number of seconds above 0, or"),
        ({"hedge_after": 1, "hedge_budget": 2}, "hedge_budget: Input should be less than or"),
        ({"hedge_budget": 0.5}, "hedge_budget: has no effect without hedge_after; give both"),
    ],
)
def test_wrong_hedge_is_one_clear_error(change: dict[str, Any], message: str) -> None:
    """The error names the field."""
    engines = [EngineConfig(name=name, backend="mock", model="m") for name in "ab"]

    with pytest.raises(InvalidFieldError, match=message):
        FallbackConfig(engines=engines, **change)
