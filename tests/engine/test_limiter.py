"""Limits that engines share: slots, fairness, tokens per minute, a lasting 429, and "auto"."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from llmengine import ConfigError, EngineConfig, LimiterConfig, SamplingParams
from llmengine.transport import loop

HANG = 60


class Gate:
    """A handler that holds all requests until they are let through, in order of arrival."""

    def __init__(self, chat: Any) -> None:
        self.arrived: list[str] = []
        self.most = 0
        self._chat = chat
        self._answered = 0
        self._allowed = threading.Semaphore(0)
        self._lock = threading.Lock()

    def __call__(self, request: Any, connection: Any) -> None:
        """Hold one request, and answer it."""
        with self._lock:
            self.arrived.append(request.json["messages"][-1]["content"])
            self.most = max(self.most, len(self.arrived) - self._answered)
        self._allowed.acquire(timeout=HANG)
        with self._lock:
            self._answered += 1
        connection.reply(self._chat())

    def let(self, count: int) -> None:
        """Let so many requests through."""
        self._allowed.release(count)


@pytest.fixture
def gate(chat: Any) -> Gate:
    """Such a handler."""
    return Gate(chat)


@pytest.mark.parametrize("weight", [1, 3])
def test_engines_share_a_limiter_by_their_weights(
    engine_for: Any, gate: Gate, in_thread: Any, wait_until: Any, clock: Any, weight: int
) -> None:
    """An engine with many prompts that wait does not keep another one from its part."""
    limiter = LimiterConfig(name="gpu", max_concurrency=4)
    many, _ = engine_for(gate, limiter=limiter, name="many", max_concurrency=20)
    few = many.config.model_copy(update={"name": "few", "weight": weight}).engine

    first = in_thread(many.results, ["many"] * 20)
    wait_until(lambda: len(gate.arrived) == 4)
    second = in_thread(few.results, ["few"] * 6)
    wait_until(lambda: (state := few.backend.limits()) is not None and state.waiting == 6)
    for count in range(5, 9):
        gate.let(1)
        wait_until(lambda count=count: len(gate.arrived) == count)
    gate.let(100)
    results = [*first.result(HANG), *second.result(HANG)]

    assert all(r.ok for r in results)
    assert gate.most == 4
    # Each of the first four answers is one of "many", so its requests in flight become fewer.
    third = "many" if weight == 1 else "few"
    assert gate.arrived[4:8] == ["few", "few", third, "many"]


def test_a_question_of_an_attempt_does_not_wait_for_the_attempt(
    engine_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With limits of one, the models are listed while the attempt that failed has the permit."""
    loop.shutdown()
    monkeypatch.setattr(loop, "PROCESS_CONCURRENCY", 1)

    def handler(request: Any, connection: Any) -> None:
        if request.path == "/api/tags":
            connection.reply({"models": [{"name": "other"}]})
        else:
            connection.reply({"error": "model 'm' not found"}, status=404)

    limiter = LimiterConfig(name="one", max_concurrency=1)
    engine, _ = engine_for(handler, backend="ollama_api", limiter=limiter)

    async def ask() -> Any:
        return await asyncio.wait_for(engine.aresults(["hi"] * 5), HANG)

    try:
        assert ["other" in str(r.error) for r in asyncio.run(ask())] == [True] * 5
    finally:
        loop.shutdown()


# ---- tokens per minute


@pytest.fixture
def counted(chat: Any, clock: Any) -> Any:
    """A handler whose answers use 100 tokens each, with the times at which requests arrived."""

    class Handler:
        def __init__(self) -> None:
            self.arrived: list[float] = []
            self.headers: dict[str, str] = {}

        def __call__(self, _: Any, connection: Any) -> None:
            self.arrived.append(clock.time())
            usage = {"prompt_tokens": 60, "completion_tokens": 40, "total_tokens": 100}
            connection.reply(chat() | {"usage": usage}, headers=self.headers)

    return Handler()


CLOCKS = {"connect": None, "total": None}


def test_tokens_per_minute_spaces_requests_by_their_tokens(
    engine_for: Any, counted: Any, clock: Any
) -> None:
    """100 tokens a second: after a burst of five seconds' worth, one answer of 100 a second."""
    engine, _ = engine_for(counted, tokens_per_minute=6000, timeout=CLOCKS)
    started = clock.time()

    with clock.passing(0.1):
        results = engine.results(["x" * 200] * 15, SamplingParams(max_tokens=40))

    assert all(r.ok for r in results)
    arrived = [moment - started for moment in sorted(counted.arrived)]
    assert all(moment >= place - 6 for place, moment in enumerate(arrived))
    assert 8 <= arrived[-1] <= 20


def test_the_servers_own_count_of_tokens_is_obeyed(
    engine_for: Any, counted: Any, clock: Any, in_thread: Any, wait_until: Any
) -> None:
    """If the server says that no tokens are left, the next request waits until some are earned."""
    counted.headers = {"x-ratelimit-remaining-tokens": "0"}
    engine, _ = engine_for(counted, tokens_per_minute=6000, timeout=CLOCKS)

    assert engine.results("hi", SamplingParams(max_tokens=40))[0].ok
    waiting = in_thread(engine.results, "hi")
    wait_until(lambda: engine.backend.limits().waiting == 1)
    with clock.passing(0.1):
        waiting.result(HANG)

    assert len(counted.arrived) == 2
    assert counted.arrived[1] > counted.arrived[0]


# ---- a lasting 429


def test_a_lasting_429_gets_one_request_per_pause(
    engine_for: Any, chat: Any, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """After the second refusal in a row only one request is a trial; then all are answered."""
    arrived: list[float] = []
    started = clock.time()

    def handler(_: Any, connection: Any) -> None:
        arrived.append(clock.time())
        if clock.time() < started + 100:
            connection.reply({}, status=429, headers={"Retry-After": "10"})
        else:
            connection.reply(chat())

    engine, _ = engine_for(handler, max_concurrency=8, max_retries=50, timeout=CLOCKS)

    with clock.passing(0.5):
        results = engine.results(["hi"] * 20)

    assert all(r.ok for r in results)
    assert "goes on answering HTTP 429: it gets one call at a time" in caplog.text
    refused = [moment for moment in arrived if moment < started + 100]
    assert len(refused) <= 8 + 8 + 9  # the first ones, those after the first pause, and trials
    assert engine.backend.limits().is_refusing is False


# ---- "auto"


def test_auto_starts_with_some_requests_and_sends_more(
    engine_for: Any, gate: Gate, in_thread: Any, wait_until: Any, clock: Any
) -> None:
    """The limit is doubled while the server answers many of them as fast as a few."""
    count, answered = 200, 0
    engine, _ = engine_for(gate, max_concurrency="auto", timeout=CLOCKS)

    def all_sent() -> bool:
        state = engine.backend.limits()
        return state is not None and len(gate.arrived) == min(count, answered + state.limit)

    asked = in_thread(engine.results, ["hi"] * count)
    wait_until(all_sent)
    clock.settle()
    assert gate.most == 16
    while answered < count:  # each round of requests takes a second
        wait_until(all_sent)
        clock.advance(1)
        arrived = len(gate.arrived)
        gate.let(arrived - answered)
        answered = arrived

    assert all(r.ok for r in asked.result(HANG))
    assert gate.most > 32


# ---- configuration


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"max_concurrency": "all"}, "max_concurrency: is 'all'; give a whole number of at least"),
        ({"max_concurrency": 0}, "max_concurrency: is 0; give a whole number of at least 1, or"),
        ({"tokens_per_minute": 0}, "tokens_per_minute: "),
        ({"weight": 0}, "weight: "),
        ({"limiter": "gpu"}, "limiter: a limiter is a mapping such as {name: gpu"),
        ({"limiter": {"max_concurrency": 3}}, "limiter: name is missing; engines share a limiter"),
        ({"limiter": {"name": "gpu", "slots": 3}}, "limiter: 'slots' is not a field of a limiter"),
        ({"limiter": {"name": "gpu", "max_concurrency": -1}}, "limiter: max_concurrency is -1; "),
        ({"limiter": {"name": "g", "tokens_per_minute": 0}}, "limiter: tokens_per_minute is 0; "),
        (
            {"limiter": {"name": "gpu"}, "requests_per_minute": 5},
            "requests_per_minute and limiter are both given; set requests_per_minute in the",
        ),
    ],
)
def test_a_wrong_limit_is_one_clear_error(fields: Any, problem: str) -> None:
    """Each names the field and says what to give."""
    with pytest.raises(ConfigError) as caught:
        EngineConfig(backend="vllm_api", model="m", **fields)

    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_name_with_two_limits_is_an_error_while_both_are_in_use(
    engine_for: Any, chat: Any
) -> None:
    """Else the engines would not share what they seem to share."""
    one, _ = engine_for(lambda _, c: c.reply(chat()), limiter=LimiterConfig(name="gpu"))
    other_limit = LimiterConfig(name="gpu", max_concurrency=3)
    other = one.config.model_copy(update={"limiter": other_limit}).engine
    assert one.results("hi")[0].ok

    with pytest.raises(ConfigError, match="limiter 'gpu': another engine of this process"):
        other.results("hi")
    with pytest.raises(ConfigError, match="limiter 'gpu': another engine of this process"):
        list(other.iter_results(["hi"]))

    del one
    assert other.results("hi")[0].ok
