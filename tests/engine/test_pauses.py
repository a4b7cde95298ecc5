"""The pause that a server asks for: who keeps it, for how long, and who is told."""

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
    """What the work gives; fails if it hangs."""
    return asyncio.run(asyncio.wait_for(work, HANG))


def busy(chat: Any, *waits: float) -> Any:
    """A handler that refuses the first requests, each with its Retry-After, and answers others."""
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
    """Makes an engine on the moved clock and its server; only waits take time there."""

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
    """Its call ends at once and says the wait; all others are asked and answered, at no wait."""
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
    """So does a stream."""
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
    """One line failed, and its error says the wait."""
    engine, server = paced(busy(chat, 86400))
    body = {"messages": [{"role": "user", "content": "hi"}]}
    row = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    lines = [{"custom_id": f"r{i}", **row} for i in range(10)]

    report = within(asyncio.to_thread(run_batch, lines, tmp_path / "out.jsonl", engine))

    assert (report.progress.answered, report.progress.failed) == (9, 1)
    assert "asks to wait 86400 s" in report.errors[0]
    assert len(server.requests) == 10


def test_patience_is_configured(paced: Any, clock: Any, chat: Any, until: Any, aside: Any) -> None:
    """With a longer timeout.wait the server's hour is waited for."""
    engine, server = paced(busy(chat, 3600), timeout={"wait": 7200})

    asked = aside(engine.results, "hi")
    until(pauses)
    with clock.passing(60):
        (result,) = asked.result(HANG)

    assert (result.ok, result.attempts, len(server.requests)) == (True, 2, 2)


def test_pause_is_kept_by_all_who_share_address_and_key(
    paced: Any, clock: Any, chat: Any, until: Any, aside: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody sends until it is over, then everybody is answered; one warning names it."""
    arrived: list[float] = []
    refusing = busy(chat, 100)

    def handler(request: Any, connection: Any) -> None:
        arrived.append(clock.time())
        refusing(request, connection)

    engine, server = paced(handler, max_retries=1)
    fellow = engine.config.model_copy(update={"name": "fellow"}).engine
    started = clock.time()

    with caplog.at_level(logging.INFO, "llmengine"):
        first = aside(engine.results, "hi")
        until(pauses)
        assert pauses() == {server.url: 100}
        others = aside(fellow.results, ["hi"] * 12)
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


def test_pause_longer_than_a_callers_patience_ends_its_call_at_once(
    paced: Any, clock: Any, chat: Any, until: Any, aside: Any
) -> None:
    """Nothing is sent for it, and the error says why and how long; who waits is answered."""
    engine, server = paced(busy(chat, 100))
    hasty = engine.config.model_copy(update={"timeout": Timeouts(wait=30)}).engine

    patient = aside(engine.results, "hi")
    until(pauses)
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
    paced: Any, clock: Any, chat: Any, until: Any, aside: Any
) -> None:
    """A limit is a key's: the same address with another key is asked meanwhile."""
    engine, server = paced(busy(chat, 100), api_key="first-key-1234")
    other = EngineConfig(
        backend="openai_compatible", model="m", endpoint=server.url, api_key="other-key-1234"
    ).engine

    waiting = aside(engine.results, "hi")
    until(pauses)
    (answered,) = within(other.aresults("hi"))
    with clock.passing(5):
        waiting.result(HANG)

    assert answered.ok
    assert answered.attempts == 1


def test_pause_that_is_prolonged_over_and_over_ends(
    paced: Any, clock: Any, chat: Any, until: Any, aside: Any
) -> None:
    """Patience is for all the pauses together that come before one attempt."""
    count = itertools.count()
    second_may_go = threading.Event()

    def handler(_: Any, connection: Any) -> None:
        wait = 50
        if next(count) == 1:
            second_may_go.wait(HANG)
            wait = 100
        connection.reply({}, status=429, headers={"Retry-After": str(wait)})

    engine, server = paced(handler, max_retries=0)

    refused = aside(engine.results, ["hi"] * 2)
    until(pauses)
    until(lambda: len(server.requests) == 2)

    async def wait() -> Any:
        waiting = asyncio.create_task(engine.aresults("hi"))
        await asyncio.sleep(0)  # until it is on the background loop
        clock.settle()
        clock.advance(40)
        second_may_go.set()
        await asyncio.to_thread(until, lambda: pauses().get(server.url) == 100)
        clock.advance(10)  # the end of the pause that it had met
        return await waiting

    (result,) = within(wait())
    refused.result(HANG)

    assert result.error.clock == "wait"
    assert result.error.retry_after == 90
    assert len(server.requests) == 2


def test_short_pauses_in_a_row_are_told_once(
    paced: Any, clock: Any, chat: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is always busy does not fill the log; a longer pause is told again."""
    engine, _ = paced(busy(chat, 1, 1, 1, 7, 1), max_retries=9)

    with clock.passing(0.5):
        (result,) = engine.results("hi")

    assert result.attempts == 6
    told = [r.args[1] for r in caplog.records if "asks to wait" in r.msg]
    assert told == [1, 7]


def test_progress_of_a_batch_shows_the_pause(
    paced: Any, clock: Any, chat: Any, tmp_path: Any, until: Any, aside: Any
) -> None:
    """Whoever watches sees which engine waits, and how long yet."""
    engine, _ = paced(busy(chat, 100), name="here")
    line = {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"messages": [{"role": "user", "content": "hi"}]},
    }
    seen: list[Any] = []

    running = aside(run_batch, [line], tmp_path / "out.jsonl", engine, on_progress=seen.append)
    until(lambda: any(p.pauses for p in seen))
    with clock.passing(5):
        report = running.result(HANG)

    assert next(p.pauses for p in seen if p.pauses) == {"here": 100}
    assert report.ok


def test_bar_of_a_run_shows_the_pause(
    paced: Any, clock: Any, chat: Any, until: Any, aside: Any
) -> None:
    """Beside the step that runs, not beside one that is done."""
    engine, server = paced(busy(chat, 100))
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=160)

    asked = aside(engine.results, "hi")
    until(pauses)
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
    """However many may be under way, they leave one by one."""
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
    paced: Any, clock: Any, chat: Any, until: Any, aside: Any
) -> None:
    """The turns of those who were cancelled go to those who come after."""
    engine, server = paced(lambda _, c: c.reply(chat()), requests_per_minute=1)
    assert engine.results("hi")[0].ok

    async def give_up() -> None:
        waiting = [asyncio.create_task(engine.aresults("hi")) for _ in range(5)]
        await asyncio.sleep(0)  # until they are on the background loop
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


def test_those_who_waited_for_a_pause_leave_one_by_one(paced: Any, clock: Any, chat: Any) -> None:
    """After a pause the spacing still holds."""
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
