"""Cold starts: all calls wait together for a server that starts, for a limited time."""

from __future__ import annotations

import itertools
import logging
import math
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    AnswerLimits,
    APIConnectionError,
    APITimeoutError,
    EngineConfig,
    InternalServerError,
)
from llmengine.mock import MockServer
from llmengine.pool.pool import nemotron_koyeb

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

pytestmark = pytest.mark.usefixtures("clean_folder")

WAKING = 16.0  # seconds of the moved clock
MODELS = "/v1/models"


class Sleeper:
    """A server that answers with a status until its first request is `seconds` ago.

    The time is that of the moved clock.
    """

    def __init__(
        self,
        clock: Any,
        answer: Callable[[Any], None],
        *,
        status: int = 503,
        seconds: float = WAKING,
    ) -> None:
        self._clock = clock
        self._answer = answer
        self._status = status
        self._seconds = seconds
        self._first_request: float | None = None
        self._found_awake = False

    def __call__(self, request: Any, connection: Any) -> None:
        """Answer one request."""
        if self._first_request is None:
            self._first_request = self._clock.time()
        if self._clock.time() < self._first_request + self._seconds:
            connection.reply({}, status=self._status)
            return
        self._found_awake = True
        if request.path == MODELS:
            connection.reply({"object": "list", "data": []})
        else:
            self._answer(connection)

    def fall_asleep(self) -> None:
        """Sleep until the next request, and then as long as before."""
        self._first_request, self._found_awake = None, False

    def starting(self) -> AbstractContextManager[None]:
        """Let the time pass while the server starts; it stands still for answers to prompts."""
        passing: AbstractContextManager[None] = self._clock.passing(
            0.02, lambda: self._first_request is not None and not self._found_awake
        )
        return passing


@pytest.fixture
def sleeper(clock: Any, chat: Any) -> Callable[..., Sleeper]:
    """Makes a server that sleeps, and then answers every prompt."""
    return lambda **options: Sleeper(clock, lambda c: c.reply(chat("good morning")), **options)


def _prompts(server: Any) -> int:
    return len([r for r in server.requests if r.path != MODELS])


@pytest.mark.parametrize("status", [502, 503, 504])
def test_prompt_is_sent_when_the_server_is_awake(
    raw_server: Any, sleeper: Any, status: int
) -> None:
    """The wait counts neither against the time limit nor as an attempt."""
    asleep = sleeper(status=status)
    server = raw_server(asleep)
    engine = nemotron_koyeb(server.url, timeout=WAKING / 2, max_retries=0).engine

    with asleep.starting():
        (result,) = engine.results("hi")

    assert result.unwrap().outputs[0].text == "good morning"
    assert result.attempts == _prompts(server) == 1


def test_without_cold_start_a_sleeping_server_fails(raw_server: Any, sleeper: Any) -> None:
    """Without ``cold_start``, an answer of a sleeping server is a failure."""
    server = raw_server(sleeper())
    config = nemotron_koyeb(server.url, max_retries=0).model_copy(update={"cold_start": None})

    (result,) = config.engine.results("hi")

    assert isinstance(result.error, InternalServerError)


def test_all_workers_wait_together(
    raw_server: Any, sleeper: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Of sixteen workers and two engines, one probes; the wait is logged once."""
    asleep = sleeper()
    server = raw_server(asleep)
    config = nemotron_koyeb(server.url, max_retries=0, max_concurrency=16)
    other = config.model_copy(update={"name": "other"})

    with caplog.at_level(logging.INFO, "llmengine"), asleep.starting():
        streamed = other.engine.iter_results(["hi"] * 4)
        results = config.engine.results(["hi"] * 16) + list(streamed)

    assert all(result.ok for result in results)
    assert _prompts(server) == 20
    assert len(server.requests) - 20 < 16
    start, end = [r.message for r in caplog.records if server.url in r.message]
    assert start.endswith("waiting up to 300 s")
    assert "is asleep (HTTP 503" in start
    assert re.search(r"is awake after \d+\.\d s$", end)


def test_stream_waits_too(raw_server: Any, clock: Any, chunk: Any) -> None:
    """The time limits of a stream start when the server is awake."""

    def stream(connection: Any) -> None:
        connection.start_sse()
        connection.sse(chunk("good "), chunk("morning"), chunk(finish="stop"), ...)
        connection.chunk(b"")

    asleep = Sleeper(clock, stream)
    limits = {"first_token": WAKING / 2, "total": WAKING / 2}
    engine = nemotron_koyeb(raw_server(asleep).url, timeout=limits, max_retries=0).engine

    with asleep.starting():
        deltas = list(engine.stream("hi"))

    assert "".join(delta.text for delta in deltas) == "good morning"


def test_server_that_falls_asleep_again(raw_server: Any, sleeper: Any) -> None:
    """A prompt that a sleeping server refuses is sent again; each wait has the whole limit."""
    asleep = sleeper()
    server = raw_server(asleep)
    engine = nemotron_koyeb(server.url, max_retries=0, cold_start=1.9 * WAKING).engine

    with asleep.starting():
        engine.generate("hi")
        asleep.fall_asleep()
        (result,) = engine.results("hi")

    assert result.ok
    assert result.attempts == 2
    assert _prompts(server) == 3


def test_failing_server_is_not_a_sleeping_one(raw_server: Any) -> None:
    """If the server lists its models, a 503 to a prompt is an ordinary failure."""

    def handler(request: Any, connection: Any) -> None:
        connection.reply({}, status=200 if request.path == MODELS else 503)

    server = raw_server(handler)
    engine = nemotron_koyeb(server.url, max_retries=1).engine

    (result,) = engine.results("hi")

    assert isinstance(result.error, InternalServerError)
    assert result.attempts == result.error.attempts == _prompts(server) == 2


def test_server_that_never_wakes(
    raw_server: Any, sleeper: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Every prompt of a long batch gets the same error, and only the first ones wait."""
    asleep = sleeper(seconds=math.inf)
    server = raw_server(asleep)
    engine = nemotron_koyeb(server.url, cold_start=3, max_concurrency=20).engine

    with caplog.at_level(logging.INFO, "llmengine"), asleep.starting():
        results = engine.results(["hi"] * 40)

    for result in results:
        assert isinstance(result.error, APITimeoutError)
        assert result.error.clock == "cold_start"
        assert str(result.error).startswith(f"{server.url} did not wake within 3 s (HTTP 503")
        assert result.attempts == 0
    assert _prompts(server) == 0
    assert len(server.requests) < 20
    _, end = [r.message for r in caplog.records if r.message.startswith(server.url)]
    assert end == f"{server.url} did not wake within 3 s"


def test_refused_connection_is_sleep(wait_until: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A port on which no server listens yet counts as a cold start."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    engine = nemotron_koyeb(f"http://127.0.0.1:{port}", "mock", max_retries=0).engine
    server = MockServer(model="mock", port=port)

    def late() -> Any:
        wait_until(lambda: "is asleep" in caplog.text)
        server.start()
        yield "hi"

    caplog.set_level(logging.INFO, "llmengine")
    pending = engine.iter_results(itertools.chain(["hi"], late()), window=2)
    try:
        assert [result.ok for result in pending] == [True, True]
    finally:
        server.stop()


@pytest.mark.parametrize("odd", [b"0" * 2_000_000, b"\x1f\x8b damaged"])
def test_server_with_an_odd_list_of_models_is_awake(raw_server: Any, chat: Any, odd: bytes) -> None:
    """A server that answers the probe is awake, whatever the answer is."""
    packed = {"Content-Encoding": "gzip"} if odd.startswith(b"\x1f\x8b") else {}

    def handler(request: Any, connection: Any) -> None:
        if request.path == MODELS:
            connection.reply(odd, headers=packed)
        else:
            connection.reply(chat("good morning"))

    limits = AnswerLimits(body_bytes=1_000_000)
    engine = nemotron_koyeb(raw_server(handler).url, limits=limits).engine

    assert engine.generate("hi")[0].outputs[0].text == "good morning"


def test_host_that_does_not_exist_is_an_error() -> None:
    """A misspelt host name is an error at once."""
    engine = nemotron_koyeb("http://no-such-host.invalid", max_retries=0).engine

    (result,) = engine.results("hi")

    assert isinstance(result.error, APIConnectionError)
    assert not isinstance(result.error, APITimeoutError)


@pytest.mark.parametrize("transport", ["asyncio", "aiohttp", "httpx"])
def test_probe_brings_the_key_and_either_transport_waits(
    raw_server: Any, sleeper: Any, transport: str
) -> None:
    """The probe sends the key."""
    asleep = sleeper()
    server = raw_server(asleep)
    engine = nemotron_koyeb(server.url, api_key="koyeb-key", transport=transport).engine

    with asleep.starting():
        engine.generate("hi")

    assert server.requests[0].method == "GET"
    assert {r.headers["authorization"] for r in server.requests} == {"Bearer koyeb-key"}


def test_preset_takes_every_field() -> None:
    """Every field of the preset can be changed; the backend is vLLM's."""
    config = nemotron_koyeb("https://n.example", "other", name="n", backend="openai_compatible")

    assert (config.name, config.backend, config.model) == ("n", "openai_compatible", "other")
    assert nemotron_koyeb("https://n.example").cold_start == 300
    assert EngineConfig(backend="mock", model="m").cold_start is None
