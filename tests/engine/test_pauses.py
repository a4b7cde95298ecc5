"""The pause that a server asks for: who waits, how long, and what is logged."""

from __future__ import annotations

import asyncio
import io
import itertools
import logging
import threading
from typing import Any

import pytest
from rich.console import Console

from llmengine import EngineConfig, RateLimitError, Result, Timeouts, pauses, run_batch
from llmengine.pipeline import StepProgress
from pytest_llmengine.cli.pipeline_run import run_progress

HANG = 60


def within(work: Any) -> Any:
    """The result of the future; fails if it hangs."""
    return asyncio.run(asyncio.wait_for(work, HANG))


def busy(chat: Any, *waits: float) -> Any:
    """A handler that refuses the first requests with a Retry-After each and answers the rest."""
    left = iter(waits)
    lock = threading.Lock()

    def handler(_: Any, connection: Any) -> None:
        with lock:
            wait = next(left, None)
        if wait is None:
            connection.reply(chat())
        else:
            said = {"error": {"message": "slow down"}}
            connection.reply(said, status=429, headers={"Retry-After": f"{wait:g}"})

    return handler


async def _results(engine: Any) -> list[Result]:
    return await engine.aresults(["hi"] * 10)


async def _iter_results(engine: Any) -> list[Result]:
    return [result async for result in engine.aiter_results(["hi"] * 10)]


@pytest.fixture
def paced(engine_for: Any, clock: Any) -> Any:
    """Makes an engine on the moved clock and its server. Only waits take time there."""

    def make(handler: Any, **config: Any) -> Any:
        clocks = {"connect": None, "total": None} | config.pop("timeout", {})
        return engine_for(handler, timeout=clocks, **config)

    return make


SENDERS = [
    {"transport": "aiohttp"},
    {"transport": "httpx"},
    {"backend": "openai", "api_key": "k", "options": {"api": "chat"}},
]


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("ask", [_results, _iter_results])
@pytest.mark.parametrize("sender", SENDERS, ids=["aiohttp", "httpx", "openai"])
def test_one_long_retry_after_costs_one_prompt(
    paced: Any, clock: Any, chat: Any, sender: Any, ask: Any, concurrency: int
) -> None:
    """Its call ends at once with the wait in the error; all others are answered without a wait."""
    fields = {"max_concurrency": concurrency} | sender
    engine, server = paced(busy(chat, 86400), **fields)

    results = within(ask(engine))

    (failed,) = [r for r in results if not r.ok]
    assert isinstance(failed.error, RateLimitError)
    assert "asks to wait 86400 s, more than the 120 s that timeout.wait allows" in str(failed.error)
    assert (failed.attempts, failed.error.attempts, failed.error.retry_after) == (1, 1, 86400)
    assert len(server.requests) == len(results) == 10
    assert not pauses()


def test_stream_with_a_long_retry_after_ends_at_once(paced: Any, clock: Any, chat: Any) -> None:
    """The stream fails at once like a call."""
    engine, server = paced(busy(chat, 86400))

    async def read() -> None:
        async for _ in engine.astream("hi"):
            pass

    with pytest.raises(RateLimitError, match="asks to wait 86400 s") as caught:
        within(read())

    assert caught.value.attempts == len(server.requests) == 1


def test_batch_file_with_a_long_retry_after_goes_on(
    paced: Any, clock: Any, chat: Any, tmp_path: Any
) -> None:
    """One line failed, and its error has the wait."""
    engine, server = paced(busy(chat, 86400))
    body = {"messages": [{"role": "user", "content": "hi"}]}
    row = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    lines = [{"custom_id": f"r{i}", **row} for i in range(10)]

    report = within(asyncio.to_thread(run_batch, lines, tmp_path / "out.jsonl", engine))

    assert (report.progress.answered, report.progress.failed) == (9, 1)
    assert "asks to wait 86400 s" in report.errors[0]
    assert len(server.requests) == 10


def test_patience_is_configured(
    paced: Any, clock: Any, chat: Any, wait_until: Any, in_thread: Any
) -> None:
    """With a longer timeout.wait the call waits for the hour that the server asked for."""
    engine, server = paced(busy(chat, 3600), timeout={"wait": 7200})

    asked = in_thread(engine.results, "hi")
    wait_until(pauses)
    with clock.passing(60):
        (result,) = asked.result(HANG)

    assert (result.ok, result.attempts, len(server.requests)) == (True, 2, 2)


def test_engines_with_one_address_and_key_share_the_pause(
    paced: Any,
    clock: Any,
    chat: Any,
    wait_until: Any,
    in_thread: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """None of them sends until it is over, then all are answered; one warning names it."""
    arrived: list[float] = []
    refusing = busy(chat, 100)

    def handler(request: Any, connection: Any) -> None:
        arrived.append(clock.time())
        refusing(request, connection)

    engine, server = paced(handler, max_retries=1)
    fellow = engine.config.model_copy(update={"name": "fellow"}).engine
    started = clock.time()

    with caplog.at_level(logging.INFO, "llmengine"):
        first = in_thread(engine.results, "hi")
        wait_until(pauses)
        assert pauses() == {server.url: 100}
        others = in_thread(fellow.results, ["hi"] * 12)
        with clock.passing(5):
            results = [*first.result(HANG), *others.result(HANG)]

    assert all(r.ok for r in results)
    assert arrived[0] == started
    assert len(arrived) == 14
    assert min(arrived[1:]) >= started + 100
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warned == [
        f"{server.url} asks to wait 100 s (HTTP 429): no call with this key is sent until then"
    ]


def test_pause_longer_than_the_wait_of_a_call_ends_it_at_once(
    paced: Any, clock: Any, chat: Any, wait_until: Any, in_thread: Any
) -> None:
    """It sends nothing, and its error has the reason and the time.

    A call that waits is answered.
    """
    engine, server = paced(busy(chat, 100))
    hasty = engine.config.model_copy(update={"timeout": Timeouts(wait=30)}).engine

    patient = in_thread(engine.results, "hi")
    wait_until(pauses)
    results = within(hasty.aresults(["hi"] * 3))
    sent_meanwhile = len(server.requests)
    with clock.passing(5):
        (answered,) = patient.result(HANG)

    assert [type(r.error) for r in results] == [RateLimitError] * 3
    assert {(r.attempts, r.error.attempts, r.error.clock) for r in results} == {(0, 0, "wait")}
    assert "asks to wait 100 s more" in str(results[0].error)
    assert "30 s at most" in str(results[0].error)
    assert sent_meanwhile == 1
    assert answered.ok


def test_another_key_is_not_paused(
    paced: Any, clock: Any, chat: Any, wait_until: Any, in_thread: Any
) -> None:
    """A limit belongs to a key: the same address with another key is still asked."""
    engine, server = paced(busy(chat, 100), api_key="first-key-1234")
    other = EngineConfig(
        backend="openai_compatible", model="m", endpoint=server.url, api_key="other-key-1234"
    ).engine

    waiting = in_thread(engine.results, "hi")
    wait_until(pauses)
    (answered,) = within(other.aresults("hi"))
    with clock.passing(5):
        waiting.result(HANG)

    assert answered.ok
    assert answered.attempts == 1


def test_pause_that_is_prolonged_over_and_over_ends(
    paced: Any, clock: Any, chat: Any, wait_until: Any, in_thread: Any
) -> None:
    """timeout.wait limits the sum of all pauses before one attempt."""
    count = itertools.count()
    second_may_go = threading.Event()

    def handler(_: Any, connection: Any) -> None:
        wait = 50
        if next(count) == 1:
            second_may_go.wait(HANG)
            wait = 100
        connection.reply({}, status=429, headers={"Retry-After": str(wait)})

    engine, server = paced(handler, max_retries=0)

    refused = in_thread(engine.results, ["hi"] * 2)
    wait_until(pauses)
    wait_until(lambda: len(server.requests) == 2)

    async def wait() -> Any:
        waiting = asyncio.create_task(engine.aresults("hi"))
        await asyncio.sleep(0)  # until the call is on the background loop
        clock.settle()
        clock.advance(40)
        second_may_go.set()
        await asyncio.to_thread(wait_until, lambda: pauses().get(server.url) == 100)
        clock.advance(10)  # the end of the first pause
        return await waiting

    (result,) = within(wait())
    refused.result(HANG)

    assert result.error.clock == "wait"
    assert result.error.retry_after == 90
    assert len(server.requests) == 2


def test_short_pauses_in_a_row_are_logged_once(
    paced: Any, clock: Any, chat: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is always busy does not fill the log; a longer pause is logged again."""
    engine, _ = paced(busy(chat, 1, 1, 1, 7, 1), max_retries=9)

    with clock.passing(0.5):
        (result,) = engine.results("hi")

    assert result.attempts == 6
    told = [r.args[1] for r in caplog.records if "asks to wait" in r.msg]
    assert told == [1, 7]


def test_progress_of_a_batch_shows_the_pause(
    paced: Any, clock: Any, chat: Any, tmp_path: Any, wait_until: Any, in_thread: Any
) -> None:
    """The progress names the engine that waits and the seconds that are left."""
    engine, _ = paced(busy(chat, 100), name="here")
    line = {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"messages": [{"role": "user", "content": "hi"}]},
    }
    seen: list[Any] = []

    running = in_thread(run_batch, [line], tmp_path / "out.jsonl", engine, on_progress=seen.append)
    wait_until(lambda: any(p.pauses for p in seen))
    with clock.passing(5):
        report = running.result(HANG)

    assert next(p.pauses for p in seen if p.pauses) == {"here": 100}
    assert report.ok


def test_bar_of_a_run_shows_the_pause(
    paced: Any, clock: Any, chat: Any, wait_until: Any, in_thread: Any
) -> None:
    """The bar of the step that runs shows it, not that of a finished step."""
    engine, server = paced(busy(chat, 100))
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=160)

    asked = in_thread(engine.results, "hi")
    wait_until(pauses)
    with run_progress(console) as watch:
        watch(StepProgress("first", 1, 1))
        watch(StepProgress("second", 2, 1))
    with clock.passing(5):
        asked.result(HANG)

    lines = shown.getvalue().splitlines()
    assert "asks to wait" not in [line for line in lines if "first" in line][-1]
    assert f"{server.url} asks to wait 100 s" in [line for line in lines if "second" in line][-1]


# ---- requests_per_minute


def test_requests_per_minute_spaces_evenly(paced: Any, clock: Any, chat: Any) -> None:
    """They leave one by one, however many may be in flight."""
    arrived: list[float] = []

    def handler(_: Any, connection: Any) -> None:
        arrived.append(clock.time())
        connection.reply(chat())

    engine, _ = paced(handler, requests_per_minute=30)
    started = clock.time()

    with clock.passing(0.5):
        results = engine.results(["hi"] * 5)

    assert all(r.ok for r in results)
    assert len(arrived) == 5
    assert all(moment >= started + 2 * place for place, moment in enumerate(sorted(arrived)))


def test_caller_who_gives_up_leaves_no_gap(
    paced: Any, clock: Any, chat: Any, wait_until: Any, in_thread: Any
) -> None:
    """Later calls get the turns of cancelled ones."""
    engine, server = paced(lambda _, c: c.reply(chat()), requests_per_minute=1)
    assert engine.results("hi")[0].ok

    async def give_up() -> None:
        waiting = [asyncio.create_task(engine.aresults("hi")) for _ in range(5)]
        await asyncio.sleep(0)  # until the calls are on the background loop
        clock.settle()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    within(give_up())

    async def ask() -> Any:
        asked = asyncio.create_task(engine.aresults("hi"))
        await asyncio.sleep(0)
        clock.settle()
        clock.advance(60)
        return await asked

    (result,) = within(ask())

    assert result.ok
    assert len(server.requests) == 2


def test_calls_after_a_pause_leave_one_by_one(paced: Any, clock: Any, chat: Any) -> None:
    """The even spacing holds after a pause too."""
    arrived: list[float] = []
    refusing = busy(chat, 60)

    def handler(request: Any, connection: Any) -> None:
        arrived.append(clock.time())
        refusing(request, connection)

    engine, _ = paced(handler, requests_per_minute=30)
    started = clock.time()

    with clock.passing(0.5):
        results = engine.results(["hi"] * 5)

    assert all(r.ok for r in results)
    later = sorted(moment for moment in arrived if moment >= started + 60)
    assert len(later) >= 4
    assert all(moment >= started + 60 + 2 * place for place, moment in enumerate(later))
