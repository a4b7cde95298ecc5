"""Cold starts: all calls wait together for a server that starts, for a limited time."""

from __future__ import annotations

import itertools
import logging
import socket
import time
from typing import Any

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

pytestmark = pytest.mark.usefixtures("clean_folder")

WAKING = 0.5
MODELS = "/v1/models"


class Sleeper:
    """A handler that answers with a status until the server has been awake for long enough."""

    def __init__(self, chat: Any, *, status: int = 503, seconds: float = WAKING) -> None:
        self._chat = chat
        self._status = status
        self._seconds = seconds
        self.knocked_at: float | None = None

    def __call__(self, request: Any, connection: Any) -> None:
        """Answer one request."""
        self.knocked_at = self.knocked_at or time.monotonic()
        if time.monotonic() - self.knocked_at < self._seconds:
            connection.reply({}, status=self._status)
        elif request.path == MODELS:
            connection.reply({"object": "list", "data": []})
        else:
            connection.reply(self._chat("good morning"))

    def fall_asleep(self) -> None:
        """Sleep until the next request, and then as long as before."""
        self.knocked_at = None


def _prompts(server: Any) -> int:
    return len([r for r in server.requests if r.path != MODELS])


@pytest.mark.parametrize("status", [502, 503, 504])
def test_prompt_is_sent_when_the_server_is_awake(raw_server: Any, chat: Any, status: int) -> None:
    """The wait counts neither against the time limit nor as an attempt."""
    server = raw_server(Sleeper(chat, status=status))
    engine = nemotron_koyeb(server.url, timeout=WAKING / 2, max_retries=0).engine

    (result,) = engine.results("hi")

    assert result.unwrap().outputs[0].text == "good morning"
    assert result.attempts == _prompts(server) == 1


def test_without_cold_start_a_sleeping_server_fails(raw_server: Any, chat: Any) -> None:
    """Without ``cold_start``, an answer of a sleeping server is a failure."""
    server = raw_server(Sleeper(chat))
    config = nemotron_koyeb(server.url, max_retries=0).model_copy(update={"cold_start": None})

    (result,) = config.engine.results("hi")

    assert isinstance(result.error, InternalServerError)


def test_all_workers_wait_together(
    raw_server: Any, chat: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Of sixteen workers and two engines, one probes; the wait is logged once."""
    server = raw_server(Sleeper(chat))
    config = nemotron_koyeb(server.url, max_retries=0, max_concurrency=16)
    other = config.model_copy(update={"name": "other"})

    with caplog.at_level(logging.INFO, "llmengine"):
        streamed = other.engine.iter_results(["hi"] * 4)
        results = config.engine.results(["hi"] * 16) + list(streamed)

    assert all(result.ok for result in results)
    assert _prompts(server) == 20
    assert len(server.requests) - 20 < 8
    told = [r.message for r in caplog.records if server.url in r.message]
    assert len(told) == 2
    assert told[0].endswith("waiting up to 300 s")
    assert "is asleep (HTTP 503" in told[0]
    assert "is awake after 0." in told[1]


def test_stream_waits_too(raw_server: Any, chunk: Any) -> None:
    """The time limits of a stream start when the server is awake."""
    sleeper = Sleeper(None)

    def handler(request: Any, connection: Any) -> None:
        awake = sleeper.knocked_at and time.monotonic() - sleeper.knocked_at > WAKING
        if request.path == MODELS or not awake:
            sleeper(request, connection)
        else:
            connection.start_sse()
            connection.sse(chunk("good "), chunk("morning"), chunk(finish="stop"), ...)
            connection.chunk(b"")

    server = raw_server(handler)
    clocks = {"first_token": WAKING / 2, "total": WAKING / 2}
    engine = nemotron_koyeb(server.url, timeout=clocks, max_retries=0).engine

    assert "".join(delta.text for delta in engine.stream("hi")) == "good morning"


def test_server_that_falls_asleep_again(raw_server: Any, chat: Any) -> None:
    """A prompt that a sleeping server refuses is sent again; each wait has the whole limit."""
    sleeper = Sleeper(chat)
    server = raw_server(sleeper)
    engine = nemotron_koyeb(server.url, max_retries=0, cold_start=2 * WAKING).engine
    engine.generate("hi")

    sleeper.fall_asleep()
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
    raw_server: Any, chat: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Every prompt of a long batch gets the same error, and only the first ones wait."""
    server = raw_server(Sleeper(chat, seconds=60))
    engine = nemotron_koyeb(server.url, cold_start=0.3, max_concurrency=20).engine

    with caplog.at_level(logging.INFO, "llmengine"):
        results = engine.results(["hi"] * 40)

    for result in results:
        assert isinstance(result.error, APITimeoutError)
        assert result.error.clock == "cold_start"
        assert str(result.error).startswith(f"{server.url} did not wake within 0.3 s (HTTP 503")
        assert result.attempts == 0
    assert _prompts(server) == 0
    assert len(server.requests) < 20
    told = [r.message for r in caplog.records if r.message.startswith(server.url)]
    assert len(told) == 2
    assert told[1] == f"{server.url} did not wake within 0.3 s"


def test_refused_connection_is_sleep() -> None:
    """A port on which no server listens yet counts as a cold start."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    engine = nemotron_koyeb(f"http://127.0.0.1:{port}", "mock", max_retries=0).engine
    server = MockServer(model="mock", port=port)

    def late() -> Any:
        time.sleep(0.2)
        server.start()
        yield "hi"

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


@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
def test_probe_brings_the_key_and_either_transport_waits(
    raw_server: Any, chat: Any, transport: str
) -> None:
    """The probe sends the key."""
    server = raw_server(Sleeper(chat))
    engine = nemotron_koyeb(server.url, api_key="koyeb-key", transport=transport).engine

    engine.generate("hi")

    assert server.requests[0].method == "GET"
    assert {r.headers["authorization"] for r in server.requests} == {"Bearer koyeb-key"}


def test_preset_takes_every_field() -> None:
    """Every field of the preset can be changed; the backend is vLLM's."""
    config = nemotron_koyeb("https://n.example", "other", name="n", backend="openai_compatible")

    assert (config.name, config.backend, config.model) == ("n", "openai_compatible", "other")
    assert nemotron_koyeb("https://n.example").cold_start == 300
    assert EngineConfig(backend="mock", model="m").cold_start is None
