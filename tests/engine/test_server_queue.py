"""A server that answers one call at a time and lets all others wait, as Ollama does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import APITimeoutError, EngineConfig, run_batch
from llmengine.transport.loop import Background

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from llmengine import Engine

SECONDS = 1.0  # that one answer takes, on the clock that the tests move
TOTAL = 25.5  # 25 answers: enough for one call, and not for 64 at once
HANG = 120  # seconds of real time that only a hang takes
MANY = [f"prompt {i}" for i in range(100)]


class OneSlot:
    """A server that answers requests one after the other, in the order in which they came.

    Time passes only while it works on an answer, and only when it has read all that was sent. It
    does not work for a client that has hung up.
    """

    def __init__(self, clock: Any) -> None:
        self.most = self.requests = 0
        self._clock = clock
        self._waiting: deque[tuple[str, Any, asyncio.StreamReader, asyncio.StreamWriter]] = deque()

    async def run(self, url: Future[str]) -> None:
        """Serve until the task is cancelled."""
        server = await asyncio.start_server(self._read, "127.0.0.1", 0, backlog=128)
        url.set_result(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with server:
            await self._serve()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1])
                body = json.loads(await reader.readexactly(length))
                self.requests += 1
                self._waiting.append((head.decode().split()[1], body, reader, writer))
                self.most = max(self.most, len(self._waiting))

    async def _serve(self) -> None:
        while True:
            await self._settle()
            if not self._waiting:
                await asyncio.sleep(0.001)
                continue
            path, body, reader, writer = self._waiting[0]
            if not reader.at_eof():
                self._clock.advance(SECONDS)
                await self._settle()  # calls that ran out of time close their connection
                data, kind = _answer(path, body)
                head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}"
                writer.write(f"{head}\r\n\r\n".encode() + data)
            self._waiting.popleft()

    async def _settle(self) -> None:
        """Let the client do all that it can do at this moment, and read all that it has sent."""
        self._clock.settle()
        for _ in range(50):
            await asyncio.sleep(0)


def _answer(path: str, body: Any) -> tuple[bytes, str]:
    """The body of the answer, and its media type."""
    message = {"role": "assistant", "content": body["messages"][0]["content"].upper()}
    if path == "/v1/chat/completions":
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return json.dumps({"choices": [choice], "model": "m"}).encode(), "application/json"
    line = json.dumps({"model": "m", "message": message, "done": True}).encode() + b"\n"
    return line, "application/x-ndjson" if body["stream"] else "application/json"


@pytest.fixture
def one_slot(clock: Any) -> Iterator[tuple[OneSlot, str]]:
    """Such a server, and its address."""
    slot, url = OneSlot(clock), Future[str]()
    server = Background()
    serving = server.submit(slot.run(url))
    yield slot, url.result(HANG)
    serving.cancel()
    server.stop()


@pytest.fixture
def ollama() -> Callable[..., Engine]:
    """Makes an engine at such an address."""

    def make(url: str, **fields: Any) -> Engine:
        config = {"backend": "ollama_api", "model": "m", "endpoint": url, "timeout": TOTAL}
        return EngineConfig(**config | fields).engine

    return make


def test_a_batch_at_one_slot_loses_nothing(ollama: Any, one_slot: Any) -> None:
    """By default no more calls are under way than wait without harm."""
    slot, url = one_slot

    results = ollama(url).results(MANY)

    assert [r.output.outputs[0].text for r in results] == [p.upper() for p in MANY]
    assert slot.most <= 4
    assert slot.requests == sum(r.attempts for r in results)


def test_calls_that_ran_out_of_time_in_the_queue_are_sent_again(
    ollama: Any, one_slot: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A concurrency that is too high for the server is lowered, and no prompt is lost."""
    _, url = one_slot

    with caplog.at_level(logging.WARNING, "llmengine"):
        results = ollama(url, max_concurrency=64).results(MANY)

    assert [r.output.outputs[0].text for r in results] == [p.upper() for p in MANY]
    assert max(r.attempts for r in results) > 1, "the server was never too slow: no test of this"
    assert "does not answer all calls in time" in caplog.text


def test_streams_wait_their_turn_as_well(ollama: Any, one_slot: Any) -> None:
    """A stream that got nothing before its time was up is opened again."""
    _, url = one_slot
    engine = ollama(url, max_concurrency=64)

    with ThreadPoolExecutor(64) as pool:
        texts = pool.map(lambda p: "".join(d.text for d in engine.stream(p)), MANY)

    assert list(texts) == [p.upper() for p in MANY]


def test_a_batch_file_loses_nothing(ollama: Any, one_slot: Any, tmp_path: Path) -> None:
    """Requests of a batch file are sent again in the same way."""
    _, url = one_slot
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
    engine = ollama(url, max_concurrency=64, max_retries=0)

    report = run_batch(source, tmp_path / "out.jsonl", [engine])

    assert (report.progress.answered, report.progress.failed) == (100, 0)


def test_a_server_that_answers_no_one_is_not_asked_again(
    ollama: Any, raw_server: Any, clock: Any, in_thread: Any, wait_until: Any
) -> None:
    """If nothing is answered, no queue moves: each prompt is sent once."""

    def silent(_: Any, connection: Any) -> None:
        connection.pause(HANG)

    server = raw_server(silent)
    engine = ollama(server.url, max_concurrency=8)

    asked = in_thread(engine.results, MANY[:8])
    wait_until(lambda: len(server.requests) == 8)
    with clock.passing(1):
        results = asked.result(HANG)

    assert {r.error.clock for r in results} == {"total"}
    assert all(r.attempts == 1 for r in results)
    assert "queue" not in str(results[0].error)


def test_a_long_answer_that_others_overtake_is_not_paid_for_twice(
    ollama: Any, raw_server: Any, clock: Any, in_thread: Any, wait_until: Any
) -> None:
    """Calls that were sent later were answered, so this one was not waiting behind them."""
    answered = 0

    def handler(request: Any, connection: Any) -> None:
        nonlocal answered
        if request.json["messages"][0]["content"] == "endless":
            connection.pause(HANG)
        data, kind = _answer(request.path, request.json)
        connection.reply(data, headers={"Content-Type": kind})
        answered += 1

    server = raw_server(handler)
    engine = ollama(server.url, max_concurrency=2)

    asked = in_thread(engine.results, ["endless", *MANY])
    wait_until(lambda: answered == len(MANY) and len(server.requests) == len(MANY) + 1)
    clock.settle()
    with clock.passing(1):
        slow, *others = asked.result(HANG)

    assert isinstance(slow.error, APITimeoutError)
    assert (slow.attempts, [r.ok for r in others]) == (1, [True] * 100)


def test_the_error_of_any_server_names_its_queue(ollama: Any, one_slot: Any) -> None:
    """If a server is not known to queue calls, nothing is sent twice, but the error says so."""
    _, url = one_slot

    results = ollama(url, backend="openai_compatible").results(MANY)

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
