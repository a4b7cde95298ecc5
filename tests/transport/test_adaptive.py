"""The adaptive limit and the circuit breaker in virtual time, on the servers of the benchmark."""

from __future__ import annotations

import importlib.util
import sys
from math import inf
from pathlib import Path
from typing import Any

import pytest

from llmengine.transport.adaptive import AdaptiveLimit, Ending, RequestOutcome
from llmengine.transport.breaker import CircuitBreaker

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "limit_simulation.py"
ANSWERED, RATE_LIMITED = RequestOutcome.ANSWERED, RequestOutcome.RATE_LIMITED


@pytest.fixture(scope="module")
def simulation() -> Any:
    """The module of the benchmark."""
    spec = importlib.util.spec_from_file_location("limit_simulation", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("server", "best"),
    [
        ("4 slots (llama.cpp)", 8),
        ("16 slots, 8 may wait, then 429", 32),
        ("batches on a CPU", 64),
    ],
)
def test_goodput_is_near_that_of_the_best_number(simulation: Any, server: str, best: int) -> None:
    """Its capacity halves, comes back and doubles; the best fixed number is that of the table."""
    model = next(m for m in simulation.SERVERS if m.name == server)

    adaptive = simulation.simulate(model, AdaptiveLimit, 16, seed=1)
    fixed = simulation.simulate(model, simulation.FixedLimit, best, seed=1)

    assert adaptive.goodput >= 0.93 * fixed.goodput


def test_a_queue_is_not_filled_without_gain(simulation: Any) -> None:
    """One that starts far too high comes down, although no request fails."""
    model = simulation.ServerModel("4 slots", 0.02, slots=4)
    limit = AdaptiveLimit(64)

    simulation.Simulation(model, [limit], quarter=2000.0).run()

    assert limit.limit <= 32


def test_nothing_is_learned_while_few_requests_are_in_flight() -> None:
    """The limit stays where it is if the program does not use it."""
    limit = AdaptiveLimit(16)

    for moment in range(1000):
        limit.ended(Ending(ANSWERED, moment, moment + 1, in_flight=3))

    assert limit.limit == 16


def test_refusals_of_one_round_lower_the_limit_once() -> None:
    """The requests that were sent before the first refusal was known are no further news."""
    limit = AdaptiveLimit(100)

    for moment in range(50):
        limit.ended(Ending(RATE_LIMITED, 0.0, 1.0 + moment, in_flight=100 - moment))
    assert limit.limit == 80
    limit.ended(Ending(RequestOutcome.TIMED_OUT, 60.0, 61.0, in_flight=80))
    assert limit.limit == 64


def test_what_the_load_does_not_cause_changes_nothing() -> None:
    """A cancelled call, or one whose request is wrong."""
    limit, breaker = AdaptiveLimit(16), CircuitBreaker("server")

    for moment in range(100):
        ending = Ending(RequestOutcome.OTHER, moment, moment + 1.0, in_flight=16)
        limit.ended(ending)
        breaker.ended(ending)

    assert (limit.limit, breaker.limit) == (16, inf)


def test_the_breaker_opens_and_closes_slowly() -> None:
    """It opens at the second refusal without an answer, and each answer allows one request more."""
    breaker = CircuitBreaker("server")

    breaker.ended(Ending(RATE_LIMITED, 0.0, 1.0, in_flight=8))
    breaker.ended(Ending(RATE_LIMITED, 0.5, 2.0, in_flight=7))  # sent before the refusal was known
    assert breaker.limit == inf
    breaker.ended(Ending(RATE_LIMITED, 3.0, 4.0, in_flight=8))
    assert breaker.is_open
    breaker.ended(Ending(RATE_LIMITED, 5.0, 6.0, in_flight=1))  # the trial fails
    assert breaker.is_open

    allowed = []
    for moment in range(7, 14):
        breaker.ended(Ending(ANSWERED, moment, moment + 0.5, in_flight=1))
        allowed.append(breaker.limit)
    assert allowed == [2, 3, 4, 5, 6, 7, inf]


def test_an_answer_between_two_refusals_keeps_the_breaker_closed() -> None:
    """A server that answers some of the requests is asked by the rules of pauses alone."""
    breaker = CircuitBreaker("server")

    for moment in range(0, 40, 4):
        breaker.ended(Ending(RATE_LIMITED, moment, moment + 1.0, in_flight=8))
        breaker.ended(Ending(ANSWERED, moment + 2.0, moment + 3.0, in_flight=8))
        assert breaker.limit == inf
