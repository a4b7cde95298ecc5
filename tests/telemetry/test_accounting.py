"""The usage in results, batches and the meter equals what the server counted."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydantic import BaseModel

from llmengine import CallError, EngineConfig, Result, SamplingParams, Usage, run_batch
from llmengine.mock import Fault
from llmengine.telemetry import BatchSummary

PRICE = {"input": 1_000_000, "output": 1_000_000}  # one unit of money per token


class City(BaseModel):
    """The output model of a repair."""

    name: str


def test_retried_calls_are_counted_once_per_generation(counted_server: Any) -> None:
    """Refused attempts used no tokens; all others count as on the server."""
    s = counted_server(faults=[Fault(status=503), None, None, Fault(status=500)], price=PRICE)

    results = s.engine.results(["a", "b", "c"], SamplingParams(max_tokens=5))
    batch = BatchSummary.of(results)

    assert batch.attempts == len(s.server.calls) == 5
    assert batch.usage == s.generated == s.totals.usage
    assert batch.uncounted == 0
    assert batch.cost == s.totals.cost == s.generated.total_tokens


def test_repair_attempts_are_counted(counted_server: Any) -> None:
    """An answer that did not fit was paid for too."""
    s = counted_server(replies=["no json", '{"name": "Oslo"}'], price=PRICE)

    (result,) = s.engine.results("a city", output_model=City)

    assert result.unwrap().parsed == City(name="Oslo")
    assert result.attempts == len(s.usages) == 2
    assert result.usage == s.generated == s.totals.usage
    assert result.cost == s.generated.total_tokens


def test_failed_structured_call_is_counted(counted_server: Any) -> None:
    """A call that ends in an error costs what its answers cost."""
    s = counted_server(replies=["no json"] * 9, price=PRICE)

    (result,) = s.engine.results("a city", output_model=City)

    assert not result.ok
    assert result.usage == s.generated
    assert result.cost == s.generated.total_tokens > 0
    assert s.totals.failed == 1


def test_lost_answers_are_uncounted_and_make_the_cost_unknown(counted_server: Any) -> None:
    """The usage of a lost answer is not known, so no total includes a guess."""
    s = counted_server(faults=[Fault(cut_after=0), None, None], price=PRICE)

    results = s.engine.results(["a", "b"])
    batch = BatchSummary.of(results)

    assert batch.answered == 2
    assert batch.uncounted == s.totals.uncounted == 1
    assert batch.usage + s.usages[0] == s.generated
    assert batch.cost is None
    assert s.totals.cost is None
    assert batch.known_cost == s.totals.known_cost == s.usages[-1].total_tokens


def test_cached_and_reasoning_tokens_are_kept(counted_server: Any) -> None:
    """The parts of prompt and completion are summed too."""
    details = {
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    s = counted_server(usage=details)

    s.engine.results(["a", "b"])

    assert (s.totals.usage.cached_tokens, s.totals.usage.reasoning_tokens) == (6, 4)


def test_streams_are_counted(counted_server: Any) -> None:
    """A stream that is read to its end counts like any call, with its failed attempt."""
    s = counted_server(faults=[Fault(status=503)], price=PRICE)

    list(s.engine.stream("a"))

    assert s.totals.calls == 1
    assert s.totals.attempts == 2
    assert s.totals.usage == s.generated
    assert s.totals.cost == s.generated.total_tokens


def test_stream_that_breaks_off_is_uncounted(counted_server: Any) -> None:
    """A stream without its end used an unknown number of tokens."""
    s = counted_server(faults=[Fault(cut_after=3)], price=PRICE, max_retries=0)

    with pytest.raises(CallError):
        list(s.engine.stream("a"))

    assert (s.totals.failed, s.totals.uncounted, s.totals.unpriced) == (1, 1, 1)


def test_answer_that_cannot_be_read_is_uncounted(counted_server: Any) -> None:
    """A 200 whose body is not JSON was paid for, but its usage is unknown."""
    s = counted_server(faults=[Fault(malformed_json=True)], price=PRICE, max_retries=0)

    (result,) = s.engine.results("a")

    assert (result.ok, result.uncounted, result.cost) == (False, 1, None)


@pytest.mark.parametrize("last", [None, {"error": {"message": "no", "code": 500}}])
def test_stream_without_its_end_is_uncounted(
    raw_server: Any, chunk: Any, last: Any, counted_server: Any
) -> None:
    """A stream that stops or ends in an error after some content has used tokens."""

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(chunk("some"), *([last] if last else []))
        connection.chunk(b"")

    s = counted_server(endpoint=raw_server(handler).url, price=PRICE, max_retries=0)

    with pytest.raises(CallError):
        list(s.engine.stream("a"))

    assert (s.totals.attempts, s.totals.uncounted, s.totals.cost) == (1, 1, None)


def test_stream_that_is_left_is_cancelled(counted_server: Any) -> None:
    """A reader who stops early is not a failure, but the tokens are unknown."""
    s = counted_server(faults=[Fault(chunk_delay=0.05)], price=PRICE)

    stream = s.engine.stream("a")
    next(stream)
    stream.close()
    s.engine.generate("b")  # runs on the same loop, after the cancellation

    assert (s.totals.calls, s.totals.cancelled, s.totals.failed) == (2, 1, 0)
    assert (s.totals.uncounted, s.totals.unpriced) == (1, 1)


def test_nothing_sent_costs_nothing(counted_server: Any) -> None:
    """A prompt that was refused before sending has a cost of 0."""
    s = counted_server(price=PRICE)

    bad, good = s.engine.results([7, "good"])

    assert (bad.attempts, bad.cost) == (0, 0.0)
    assert BatchSummary.of([bad, good]).cost == good.cost


def test_no_price_no_cost(counted_server: Any) -> None:
    """Without a price every cost is None, and known tokens stay known."""
    s = counted_server()

    (result,) = s.engine.results("a")

    assert result.cost is None
    assert result.usage == s.generated
    assert s.totals.cost is None


def test_silent_server_has_no_usage(raw_server: Any, chat: Any) -> None:
    """If a server sends no usage, it is unknown, and so is the cost."""
    body = {k: v for k, v in chat().items() if k != "usage"}
    server = raw_server(lambda _, connection: connection.reply(body))
    config = EngineConfig(
        backend="openai_compatible", model="m", endpoint=server.url, price={"input": 1, "output": 1}
    )

    (result,) = config.engine.results("a")

    assert (result.ok, result.usage, result.uncounted, result.cost) == (True, None, 1, None)


def test_hours_are_shared_among_the_calls_under_way(counted_server: Any) -> None:
    """Concurrent calls share the hour: together they cost the time that passed."""
    s = counted_server(faults=[Fault(delay=0.1)] * 8, price={"gpu_hour": 3600}, max_concurrency=8)

    results = s.engine.results(["a"] * 8)

    assert sum(r.cost for r in results) == pytest.approx(s.totals.seconds)
    assert s.totals.cost == pytest.approx(s.totals.seconds)
    assert 0.1 <= s.totals.seconds < 8 * 0.1


def test_iterated_results_are_counted(counted_server: Any) -> None:
    """iter_results adds to the meter as a batch does."""
    s = counted_server(price=PRICE)

    results = list(s.engine.iter_results(f"{n}" for n in range(5)))

    assert BatchSummary.of(results).usage == s.generated == s.totals.usage


def test_batch_files_are_counted(counted_server: Any, tmp_path: Any) -> None:
    """Lines of a batch file count for the engine, with their lost answers."""
    s = counted_server(
        faults=[Fault(cut_after=0), Fault(status=503)], price=PRICE, retry_wait=0.001
    )
    body = {"model": "mock", "messages": [{"role": "user", "content": "a"}]}
    lines = [
        {"custom_id": f"{n}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for n in range(3)
    ]

    progress = run_batch(lines, tmp_path / "out.jsonl", s.engine).progress

    assert progress.answered == 3
    assert progress.attempts == s.totals.attempts == 5
    assert progress.usage == s.totals.usage
    assert progress.usage + s.usages[0] == s.generated
    assert (progress.cost, s.totals.cost, s.totals.uncounted) == (None, None, 1)


def test_probe_is_counted(counted_server: Any) -> None:
    """The usage of a probe counts for the engine and for no prompt."""
    s = counted_server(structured="auto", replies=['{"name": "Oslo"}'], price=PRICE)

    (result,) = s.engine.results("a city", output_model=City)

    assert s.totals.usage == s.generated
    assert result.attempts < s.totals.attempts == len(s.usages)
    assert (s.totals.calls, s.totals.cancelled) == (2, 0)


def test_many_threads(counted_server: Any) -> None:
    """Calls from many threads are all counted, while others read the meter."""
    s = counted_server(price=PRICE)
    threads = [threading.Thread(target=s.engine.results, args=(["a"] * 5,)) for _ in range(8)]

    for thread in threads:
        thread.start()
    s.engine.generate("b")
    assert s.totals.calls >= 1
    for thread in threads:
        thread.join()

    assert s.totals.calls == 41
    assert s.totals.usage == s.generated


def test_summary_of_nothing() -> None:
    """An empty batch costs nothing."""
    batch = BatchSummary.of([])

    assert (batch.cost, batch.usage, batch.prompts) == (0.0, Usage(), 0)


def test_summary_keeps_what_is_known() -> None:
    """One unknown cost makes the sum unknown; the known part is apart."""
    batch = BatchSummary.of([Result(cost=1.5), Result(cost=None), Result(cost=0.5)])

    assert (batch.cost, batch.known_cost, batch.unpriced) == (None, 2.0, 1)
