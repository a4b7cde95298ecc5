"""Several endpoints of one model: shared work, and a dead one that costs nothing but its rest."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    APIConnectionError,
    BadRequestError,
    CallError,
    InternalServerError,
    run_batch,
)
from llmengine.batch.balancer import Balancer, Endpoint
from llmengine.engine.health import EJECT_AFTER
from llmengine.mock import Fault, MockServer, Script
from llmengine.transport.loop import background

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.batch.conftest import Kit


@pytest.fixture
def other() -> Iterator[MockServer]:
    """A second server of the same model."""
    with MockServer() as server:
        yield server


def test_server_that_dies_costs_no_result(
    kit: Kit, engine_at: Any, server: MockServer, other: MockServer, output: Path
) -> None:
    """The other answers its requests, even with no retries, and it is hardly asked again."""
    engines = [
        engine_at(s.root_url, max_retries=0, max_concurrency=8, name=name)
        for s, name in ((server, "dying"), (other, "living"))
    ]
    resting: set[str] = set()
    died_after = 0

    def watch(progress: Any) -> None:
        nonlocal died_after
        resting.update(progress.resting)
        if progress.done == 200:
            server.stop()
            died_after = len(server.calls)

    report = run_batch(
        [kit.request(f"r{i}") for i in range(1000)], output, engines, on_progress=watch
    )

    assert report.ok
    assert len(kit.read(output)) == 1000
    assert resting == {"dying"}
    assert died_after > 50
    seen = died_after + len(other.calls)
    # Those in flight when it died, and a few for each second in which it was tried again.
    assert 1000 < report.progress.attempts < 1000 + 8 + 8 + EJECT_AFTER + 20
    assert seen <= report.progress.attempts


def test_servers_share_by_what_they_can_do(
    kit: Kit, engine_at: Any, server: MockServer, other: MockServer, output: Path
) -> None:
    """A slow server gets less of the work, and no request waits for it."""
    server.play(Script(faults=repeat(Fault(delay=0.5))))
    engines = [engine_at(s.root_url, max_concurrency=4) for s in (server, other)]

    run_batch([kit.request(f"r{i}") for i in range(300)], output, engines)

    assert 0 < len(server.calls) < len(other.calls) / 2


@pytest.mark.parametrize("fault", [Fault(status=429, retry_after=30), Fault(status=503)])
def test_other_server_is_asked_at_once(
    kit: Kit,
    engine_at: Any,
    server: MockServer,
    other: MockServer,
    clock: Any,
    output: Path,
    fault: Fault,
) -> None:
    """A batch neither waits nor fails because one server is busy, however long that asks to wait.

    Time stands still, so a run that waits for anything does not end.
    """
    server.play(Script(faults=repeat(fault)))
    engines = [engine_at(s.root_url, max_retries=0) for s in (server, other)]

    report = run_batch([kit.request(f"r{i}") for i in range(300)], output, engines)

    assert report.ok
    assert report.progress.attempts == len(server.calls) + len(other.calls)


def test_server_that_does_not_wake_is_left_to_itself(
    kit: Kit,
    engine_at: Any,
    server: MockServer,
    other: MockServer,
    clock: Any,
    in_thread: Any,
    wait_until: Any,
    output: Path,
) -> None:
    """What waited in vain for a sleeping server goes to the other."""
    server.play(Script(faults=repeat(Fault(status=503))))
    asleep = engine_at(server.root_url, cold_start=20, max_retries=0, max_concurrency=4)
    living = engine_at(other.root_url, timeout={"connect": None, "total": None})
    lines = [kit.request(f"r{i}") for i in range(50)]

    run = in_thread(run_batch, lines, output, [asleep, living])
    wait_until(lambda: server.calls)
    with clock.passing(1):
        report = run.result(60)

    assert report.ok
    assert {call.method for call in server.calls} == {"GET"}


def test_sleeping_server_is_waited_for(
    kit: Kit, engine_at: Any, server: MockServer, output: Path
) -> None:
    """The wait costs neither a retry nor an attempt."""
    server.play(Script(faults=repeat(Fault(status=503), 2)))

    report = run_batch(
        [kit.request("a")], output, engine_at(server.root_url, cold_start=120, max_retries=0)
    )

    assert report.ok
    assert report.progress.attempts == 1


def test_refused_request_is_not_passed_around(
    kit: Kit, engine_at: Any, server: MockServer, other: MockServer, output: Path
) -> None:
    """What is wrong with the request is wrong everywhere."""
    engines = [engine_at(s.root_url) for s in (server, other)]

    run_batch([kit.request("a", body={"model": "mock"})], output, engines)

    assert len(server.calls) + len(other.calls) == 1


def test_all_dead_ends_by_the_retry_rules(kit: Kit, engine_at: Any, output: Path) -> None:
    """The run ends: each request is tried as often as configured, and then fails."""
    with ExitStack() as stack:
        # Ports that are taken and refuse connections, so that no other server can get them.
        taken = [stack.enter_context(socket.socket()) for _ in range(2)]
        for sock in taken:
            sock.bind(("127.0.0.1", 0))
        urls = [f"http://127.0.0.1:{sock.getsockname()[1]}" for sock in taken]
        engines = [engine_at(url, max_retries=2, timeout={"connect": None}) for url in urls]

        report = run_batch([kit.request(f"r{i}") for i in range(50)], output, engines)

    assert report.progress.failed == 50
    assert {line["error"]["code"] for line in kit.read(output)} == {"api_connection_error"}
    assert 50 * 3 <= report.progress.attempts <= 50 * 3 * 2


def _on_loop(work: Any) -> Any:
    return background().submit(work).result(60)


def _fail(endpoint: Endpoint, error: CallError, *, trial: bool = False) -> None:
    with suppress(CallError), endpoint.attempt(trial=trial):
        raise error


@pytest.fixture
def pair(engine_at: Any, clock: Any) -> tuple[Endpoint, Endpoint]:
    """Two endpoints that rest for 20 s the first time, on the clock that the test moves."""
    first, second = (
        Endpoint(engine_at(f"http://127.0.0.1:{port}"), background(), first_rest=20)
        for port in (1, 2)
    )
    return first, second


def test_rest_ends_with_one_trial(pair: tuple[Endpoint, Endpoint], clock: Any) -> None:
    """After its rest an endpoint gets one request; an answer brings it back."""
    first, second = pair

    async def story() -> None:
        balancer = Balancer(pair)
        for _ in range(EJECT_AFTER):
            _fail(first, APIConnectionError("gone"))
        assert first.out
        assert {balancer.pick(()) for _ in range(9)} == {(second, False)}
        clock.advance(25)
        assert balancer.pick(()) == (first, True)
        with first.attempt(trial=True):
            assert balancer.pick(()) == (second, False)
        assert not first.out

    _on_loop(story())


def test_failed_trial_doubles_the_rest(pair: tuple[Endpoint, Endpoint], clock: Any) -> None:
    """It is asked ever less often; stragglers of its first death change nothing."""
    first, second = pair

    async def story() -> None:
        balancer = Balancer(pair)
        for _ in range(EJECT_AFTER):
            _fail(first, InternalServerError("gone", status=503))
        clock.advance(15)
        for _ in range(EJECT_AFTER):
            _fail(first, InternalServerError("gone", status=503))
        clock.advance(10)
        assert balancer.pick(()) == (first, True)
        _fail(first, InternalServerError("gone", status=503), trial=True)
        clock.advance(25)
        assert balancer.pick(()) == (second, False)
        clock.advance(25)
        assert balancer.pick(()) == (first, True)

    _on_loop(story())


def test_refusals_show_that_a_server_lives(pair: tuple[Endpoint, Endpoint]) -> None:
    """Only failures in a row count, and a 400 is none."""
    first, _ = pair

    async def story() -> None:
        for error in [APIConnectionError("gone"), BadRequestError("no", status=400)] * 5:
            _fail(first, error)
        assert not first.out

    _on_loop(story())


def test_idle_endpoints_take_turns(pair: tuple[Endpoint, Endpoint]) -> None:
    """Where only one request is under way at a time, all are asked alike."""

    async def story() -> list[Endpoint]:
        asked = []
        for _ in range(6):
            endpoint, trial = Balancer(pair).pick(())
            with endpoint.attempt(trial=trial):
                asked.append(endpoint)
        return asked

    assert _on_loop(story()) == [*pair] * 3
