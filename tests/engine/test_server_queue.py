"""A server that answers one call at a time and lets all others wait, as Ollama does."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import APITimeoutError, EngineConfig, run_batch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmengine import Engine

SECONDS = 0.02  # that one answer takes
TOTAL = 0.5  # 25 answers: a call alone has time in plenty, 64 at once have not
MANY = [f"prompt {i}" for i in range(100)]


class OneSlot:
    """Answers calls in the order in which they came; one whose client has left is skipped."""

    def __init__(self) -> None:
        self.most = 0
        self._line: deque[object] = deque()
        self._moved = threading.Condition()

    def __call__(self, request: Any, connection: Any) -> None:
        """Answer one request when it is its turn."""
        ticket = object()
        with self._moved:
            self._line.append(ticket)
            self.most = max(self.most, len(self._line))
            self._moved.wait_for(lambda: self._line[0] is ticket)
        try:
            if not _has_left(connection.sock):
                connection.pause(SECONDS)
                _answer(request, connection)
        finally:
            with self._moved:
                self._line.popleft()
                self._moved.notify_all()


def _has_left(sock: socket.socket) -> bool:
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _answer(request: Any, connection: Any) -> None:
    said = request.json["messages"][0]["content"].upper()
    if request.path == "/v1/chat/completions":
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": said},
            "finish_reason": "stop",
        }
        connection.reply({"choices": [choice], "model": "m"})
        return
    line = {"model": "m", "message": {"role": "assistant", "content": said}, "done": True}
    if request.json["stream"]:
        connection.reply(
            json.dumps(line).encode() + b"\n", headers={"Content-Type": "application/x-ndjson"}
        )
    else:
        connection.reply(line)


@pytest.fixture
def one_slot() -> OneSlot:
    """The handler of such a server."""
    return OneSlot()


@pytest.fixture
def ollama(
    raw_server: Callable[[Any], Any], one_slot: OneSlot
) -> Callable[..., tuple[Engine, Any]]:
    """Makes an engine and the server of one slot that it asks."""

    def make(handler: Any = one_slot, **fields: Any) -> tuple[Engine, Any]:
        server = raw_server(handler)
        config = {"backend": "ollama_api", "model": "m", "endpoint": server.url, "timeout": TOTAL}
        return EngineConfig(**config | fields).engine, server

    return make


def test_a_batch_at_one_slot_loses_nothing(ollama: Any, one_slot: OneSlot) -> None:
    """By default no more calls are under way than wait without harm."""
    engine, server = ollama()

    results = engine.results(MANY)

    assert [r.output.outputs[0].text for r in results] == [p.upper() for p in MANY]
    assert one_slot.most <= 4
    assert len(server.requests) == sum(r.attempts for r in results)


def test_calls_that_ran_out_of_time_in_the_queue_are_sent_again(
    ollama: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A concurrency that is too high for the server is lowered, and no prompt is lost."""
    engine, _ = ollama(max_concurrency=64)

    with caplog.at_level(logging.WARNING, "llmengine"):
        results = engine.results(MANY)

    assert [r.output.outputs[0].text for r in results] == [p.upper() for p in MANY]
    assert max(r.attempts for r in results) > 1, "the server was never too slow: no test of this"
    assert "does not answer all calls in time" in caplog.text


def test_streams_wait_their_turn_as_well(ollama: Any) -> None:
    """A stream that got nothing before its time was up is opened again."""
    engine, _ = ollama(max_concurrency=64)

    with ThreadPoolExecutor(64) as pool:
        texts = pool.map(lambda p: "".join(d.text for d in engine.stream(p)), MANY)

    assert list(texts) == [p.upper() for p in MANY]


def test_a_batch_file_loses_nothing(
    raw_server: Callable[[Any], Any], one_slot: OneSlot, tmp_path: Path
) -> None:
    """Requests of a batch file are sent again in the same way."""
    body = [{"role": "user", "content": p} for p in MANY]
    lines = [
        {
            "custom_id": str(i),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "m", "messages": [message]},
        }
        for i, message in enumerate(body)
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    config = EngineConfig(
        backend="ollama_api",
        model="m",
        endpoint=raw_server(one_slot).url,
        timeout=TOTAL,
        max_concurrency=64,
        max_retries=0,
    )

    report = run_batch(source, tmp_path / "out.jsonl", [config.engine])

    assert (report.progress.answered, report.progress.failed) == (100, 0)


def test_a_server_that_answers_nobody_is_not_asked_again(ollama: Any) -> None:
    """Where nothing is answered there is no queue that moves: each prompt is sent once."""

    def silent(_: Any, connection: Any) -> None:
        connection.pause(60)

    engine, _ = ollama(silent, max_concurrency=8)

    results = engine.results(MANY[:8])

    assert {r.error.clock for r in results} == {"total"}
    assert all(r.attempts == 1 for r in results)
    assert "queue" not in str(results[0].error)


def test_a_long_answer_that_others_overtake_is_not_paid_for_twice(ollama: Any) -> None:
    """Calls that were sent later were answered, so this one was not waiting behind them."""

    def handler(request: Any, connection: Any) -> None:
        if request.json["messages"][0]["content"] == "endless":
            connection.pause(60)
        _answer(request, connection)

    engine, _ = ollama(handler, max_concurrency=2)

    slow, *others = engine.results(["endless", *MANY])

    assert isinstance(slow.error, APITimeoutError)
    assert (slow.attempts, [r.ok for r in others]) == (1, [True] * 100)


def test_the_error_of_any_server_names_its_queue(
    raw_server: Callable[[Any], Any], one_slot: OneSlot
) -> None:
    """Where a server is not known to queue calls nothing is sent twice, but the error says so."""
    server = raw_server(one_slot)
    config = EngineConfig(
        backend="openai_compatible", model="m", endpoint=server.url, timeout=TOTAL
    )

    results = config.engine.results(MANY)

    last = [str(r.error) for r in results if not r.ok][-1]
    assert "it probably waited in the server's queue: 64 calls were under way" in last
    assert "max_concurrency" in last
    assert all(r.attempts == 1 for r in results)


@pytest.mark.parametrize(
    ("backend", "concurrency"), [("ollama_api", 4), ("embedded", 8), ("vllm_api", 64)]
)
def test_a_backends_concurrency_fits_its_server(backend: str, concurrency: int) -> None:
    """What the configuration leaves out is the backend's, and what it says goes over that."""
    assert EngineConfig(backend=backend, model="m").engine.backend.concurrency == concurrency
    assert (
        EngineConfig(backend=backend, model="m", max_concurrency=7).engine.backend.concurrency == 7
    )
