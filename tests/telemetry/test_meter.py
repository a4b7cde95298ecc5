"""The meter: totals by engine, differences for one run, and its state after a fork."""

from __future__ import annotations

import json
import multiprocessing
import sys
from typing import Any

import pytest

from llmengine import Result, Usage
from llmengine.telemetry import Totals, UsageMeter, Who, meter
from llmengine.telemetry.usage import Account

WHO = Who("e", "m")


def test_one_run_is_the_difference_of_two_snapshots(counted_server: Any) -> None:
    """It has only the calls between the two."""
    s = counted_server(price={"input": 1, "output": 1})
    s.engine.results(["before"] * 2)
    before = meter.snapshot()

    results = s.engine.results(["a"] * 3)
    run = meter.snapshot() - before

    ((who, totals),) = run.engines.items()
    assert who == Who(s.engine.name, "mock", "USD")
    assert totals.calls == totals.attempts == 3
    assert totals.usage == sum((r.usage for r in results), Usage())
    assert totals.cost == pytest.approx(sum(r.cost for r in results))


def test_currencies_are_not_added_up(counted_server: Any) -> None:
    """Engines of one name that are paid in two currencies have two totals."""
    for currency in ("EUR", "USD"):
        s = counted_server(price={"gpu_hour": 1, "currency": currency})
        s.engine.results("a")

    accounts = [who.currency for who in meter.snapshot().engines if who.engine == s.engine.name]

    assert sorted(accounts) == ["EUR", "USD"]


def test_snapshot_as_json(counted_server: Any) -> None:
    """A snapshot can be written to a file; unknown values are null."""
    s = counted_server()
    s.engine.results("a")

    entries = json.loads(json.dumps(meter.snapshot().as_dicts()))

    (mine,) = (e for e in entries if e["engine"] == s.engine.name)
    assert mine["cost"] is None
    assert mine["usage"]["prompt_tokens"] == s.generated.prompt_tokens


def test_unknown_counts_stay_unknown() -> None:
    """A count that no call had is None in the totals and in differences, never 0."""
    own = UsageMeter()
    own.account(WHO).add(Result(usage=Usage(5, None), cost=1.0))
    before = own.snapshot()
    own.account(WHO).add(Result(usage=Usage(2, None), cost=1.0))

    totals = (own.snapshot() - before).engines[WHO]

    assert totals.usage == Usage(2, None)
    assert totals == Totals(calls=1, attempts=1, usage=Usage(2, None), known_cost=1.0)


def test_time_is_counted_once_however_many_calls() -> None:
    """The shares of calls that overlap add up to the time in which any was in flight."""
    account = Account()
    first = account.begin()
    second = account.begin()
    shares = [account.end(first)]
    third = account.begin()
    shares += [account.end(second), account.end(third)]

    assert sum(shares) == pytest.approx(account.totals().seconds)
    assert all(share > 0 for share in shares)


def test_time_without_a_call_is_not_counted() -> None:
    """The time stands still while no call is in flight."""
    account = Account()
    account.end(account.begin())

    assert account.totals().seconds == account.totals().seconds


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_from_nothing(counted_server: Any) -> None:
    """A child does not count the parent's usage again."""
    s = counted_server()
    s.engine.results("a")
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    child = context.Process(target=lambda: queue.put(len(meter.snapshot().engines)))
    child.start()
    child.join(60)

    assert queue.get() == 0
