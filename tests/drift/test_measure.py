"""The measurement of a server: order, load, failed rounds and pauses, with a mock."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import EngineConfig
from llmengine.mock import Fault, MockServer
from pytest_llmengine.drift import DriftError, DriftPrompt, DriftTier, Meter, Probe, RoundKind
from pytest_llmengine.drift.measure import SAMPLING
from pytest_llmengine.drift.search import search

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock import ReceivedRequest

CANDIDATES = [f"words {chr(ord('a') + n)}" for n in range(24)]
WORDS = ("one", "two", "three", "four", "five", "six")
PROBE = Probe(
    tier=DriftTier.LOGPROBS,
    sampling=SAMPLING,
    prompts=tuple(DriftPrompt(text=word) for word in WORDS),
    loads=(1,),
)


@pytest.fixture
def server() -> Iterator[MockServer]:
    """A server."""
    with MockServer() as server:
        yield server


def meter_of(server: MockServer, **fields: Any) -> Meter:
    """A meter whose engine does not repeat failed requests."""
    config = EngineConfig(
        backend="openai_compatible", model="mock", endpoint=server.root_url, max_retries=0
    )
    return Meter(config.engine, PROBE, random.Random(1), **fields)


def test_rounds_are_in_random_order_with_pinned_values(server: MockServer) -> None:
    """Each request has every value; answers are in the order of the prompts."""
    session = meter_of(server).session({RoundKind.FIRST: 2, RoundKind.LONG: 3})

    asked = [call.prompt for call in server.calls]
    assert sorted(asked[:6]) == sorted(asked[6:]) == sorted(WORDS)
    assert asked[:6] != asked[6:]
    body = server.calls[0].json
    assert (body["temperature"], body["seed"], body["top_p"], body["top_logprobs"]) == (0, 0, 1, 20)
    assert [answer.prompt for answer in session.rounds[0].answers] == list(range(6))
    assert session.rounds[0].answers == session.rounds[1].answers
    assert (session.requests, session.completion_tokens, session.error) == (12, 12, "")


def test_rounds_are_asked_under_all_loads(server: MockServer) -> None:
    """Each load is as frequent as the others; long and sampled answers are asked together."""
    kinds = (RoundKind.LONG, RoundKind.SAMPLED)
    prompts = (*PROBE.prompts, *(DriftPrompt(text=kind, kind=kind) for kind in kinds))
    meter = meter_of(server)
    meter.probe = replace(PROBE, prompts=prompts, loads=(1, 4))

    session = meter.session({RoundKind.FIRST: 4, RoundKind.LONG: 5, RoundKind.SAMPLED: 4})

    counts = Counter((one.kind, one.load) for one in session.rounds)
    assert [counts[RoundKind.FIRST, load] for load in (1, 4)] == [2, 2]
    assert [counts[RoundKind.SAMPLED, load] for load in (1, 4)] == [2, 2]
    assert sorted(counts[RoundKind.LONG, load] for load in (1, 4)) == [2, 3]
    order = [one.kind for one in session.rounds]
    assert all(
        order[n - 1] is RoundKind.LONG for n, k in enumerate(order) if k is RoundKind.SAMPLED
    )
    assert [one.answers[0].prompt for one in session.of_kind(RoundKind.SAMPLED)] == [7] * 4


def test_a_failed_round_is_asked_once_more(server: MockServer) -> None:
    """Once is forgiven and counted; twice ends the session, and those that would follow."""
    server.when(contains="three").reply(Fault(status=500), times=1)
    server.when(contains="four", where=lambda _: is_down).reply(Fault(status=500))
    server.when().reply()
    is_down = False
    forgiven = meter_of(server).session({RoundKind.FIRST: 1})
    is_down = True
    sessions = meter_of(server).sessions(3, {RoundKind.FIRST: 2})

    assert (len(forgiven.rounds), forgiven.requests, forgiven.error) == (1, 12, "")
    (failed,) = sessions
    assert (failed.rounds, failed.requests) == ((), 12)
    assert failed.error.startswith("a request failed, and again when its round was repeated: ")


def test_sessions_are_spread_over_the_time(server: MockServer) -> None:
    """The first begins at once, the last at the end."""
    pauses: list[float] = []
    meter_of(server, sleep=pauses.append).sessions(3, {RoundKind.FIRST: 1}, spread=7200)

    first, second, third = pauses
    assert first == 0
    assert 3000 < second <= 3600
    assert 6600 < third <= 7200


def test_border_inputs_are_found_by_text(server: MockServer) -> None:
    """Prompts with two answers at a low temperature come first, the most even ones before all."""

    def sampled(call: ReceivedRequest) -> bool:
        # A close call: the seed decides, and at the lower temperature for two prompts only.
        body, number = call.json, CANDIDATES.index(call.prompt)
        is_close = number in {7, 9} or (number in {3, 5} and body["temperature"] > 0.1)
        return is_close and body["seed"] % 2 == 1

    server.when(where=sampled).reply("Odd.")
    server.when(where=lambda call: call.prompt == CANDIDATES[20]).reply("Rare.")
    server.when().reply("Even.")
    candidates = [DriftPrompt(text=text) for text in CANDIDATES]

    found = search(meter_of(server).engine, DriftTier.TEXT, random.Random(1), candidates=candidates)

    chosen = [CANDIDATES.index(p.text) for p in found.probe.of_kind(RoundKind.FIRST).values()]
    assert len(chosen) == len(set(chosen)) == 18
    assert (sorted(chosen[:2]), sorted(chosen[2:4])) == ([7, 9], [3, 5])
    assert 20 in chosen[4:6]  # of another answer
    assert found.note == "4 of 18 have two answers at temperature 0.2"
    assert found.requests == 2 * 24 + 4 * 4


def test_a_search_that_fails_is_an_error(server: MockServer) -> None:
    """It names the engine and the problem."""
    server.when(contains="words g").reply(Fault(status=404))
    server.when().reply()
    prompts = [DriftPrompt(text=text) for text in CANDIDATES]

    with pytest.raises(DriftError, match=r"openai_compatible did not answer a prompt: .*404"):
        search(meter_of(server).engine, DriftTier.TEXT, random.Random(1), candidates=prompts)


def test_a_server_without_log_probabilities(server: MockServer) -> None:
    """It is asked for text, and told why; a server that is down is not mistaken for it."""
    engine, few = meter_of(server).engine, [DriftPrompt(text=text) for text in CANDIDATES]
    server.when(where=lambda call: call.json.get("logprobs")).reply(Fault(status=403), times=2)
    server.when().reply()
    found = search(engine, None, random.Random(1), candidates=few)
    with pytest.raises(DriftError, match=r"no log-probabilities: .*403.*; use --tier text"):
        search(engine, DriftTier.LOGPROBS, random.Random(1))
    with MockServer() as down:
        down.when().reply(Fault(status=503))
        with pytest.raises(DriftError, match=r"did not answer a prompt: .*503"):
            search(meter_of(down).engine, None, random.Random(1))

    assert found.probe.tier is DriftTier.TEXT
    assert "; there are no log-probabilities: " in found.note
