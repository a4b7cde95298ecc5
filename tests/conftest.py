"""Fixtures for all tests: a raw HTTP server on loopback, and others."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import socket
import socketserver
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import ConfigError, EngineConfig
from llmengine.embedded import models
from llmengine.transport import loop
from llmengine.vllm_local import session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODEL = "smollm2-135m"

# A shell starts background jobs with Ctrl-C ignored, and the programs that tests start would
# inherit that and never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass
class Request:
    """One request as it was received."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Connection:
    """The connection by which a handler answers."""

    sock: socket.socket
    stopping: threading.Event

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def reply(
        self, body: object, *, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        """Send a whole answer: JSON, or bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        self.head(status, {**lines, **(headers or {})})
        self.send(data)

    def head(self, status: int, headers: dict[str, str]) -> None:
        """Send the status line and headers."""
        lines = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        self.send(f"HTTP/1.1 {status} Status\r\n{lines}\r\n".encode())

    def sse(self, *events: object) -> None:
        """Send events; a string is sent as a raw line, ``...`` as ``[DONE]``."""
        for event in events:
            if isinstance(event, str):
                self.chunk(f"{event}\n\n".encode())
            else:
                data = "[DONE]" if event is ... else json.dumps(event)
                self.chunk(f"data: {data}\n\n".encode())

    def start_sse(self) -> None:
        """Open an event stream."""
        self.head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})

    def chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked body; b"" ends it."""
        self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than the test."""
        self.stopping.wait(seconds)

    def drop(self) -> None:
        """Break the connection."""
        self.sock.shutdown(socket.SHUT_RDWR)


class MovedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still until a test advances it."""

    _moment = 1000.0

    def time(self) -> float:
        """The present time, in seconds."""
        return self._moment

    def advance(self, seconds: float) -> None:
        """Advance the time, from any thread."""
        self._moment += seconds
        self.call_soon_threadsafe(int)  # the loop looks at its clock when it is woken

    def settle(self) -> None:
        """Return when the loop has done all that it can do at this time, except for I/O."""
        asyncio.run_coroutine_threadsafe(_turns(50), self).result(30)

    @contextmanager
    def passing(self, step: float, when: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Advance the time by `step` seconds every millisecond in which `when` is true."""
        over = threading.Event()

        def pass_on() -> None:
            while not over.wait(0.001):
                if when():
                    self.advance(step)

        thread = threading.Thread(target=pass_on)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Pytester without compiled modules.

    A test that writes its module again within a second, with as many bytes, would run the old one.
    """
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return pytester


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[MovedLoop]:
    """The clock of the background loop, which stands still unless the test advances it."""
    loop.shutdown()
    moved = MovedLoop()
    monkeypatch.setattr(loop, "_current", loop.Background(moved))
    yield moved
    loop.shutdown()


@pytest.fixture
def moved_loop() -> Callable[..., None]:
    """Runs a coroutine function on a loop whose time stands still unless it is advanced."""

    def run(work: Callable[[MovedLoop], Any]) -> None:
        with asyncio.Runner(loop_factory=MovedLoop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, MovedLoop)
            runner.run(work(loop))

    return run


def _wait_until(happened: Callable[[], object], seconds: float = 30.0) -> None:
    """Return when the condition holds; fail after a time that only a hang takes."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Waits until a condition holds."""
    return _wait_until


@pytest.fixture
def in_thread() -> Callable[..., Future[Any]]:
    """Calls a function in a thread, which does not keep a failed test from ending."""

    def start(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(work(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - raised where the result is read
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future

    return start


@dataclass
class RawServer:
    """A server on a free port of 127.0.0.1, and the requests that it got."""

    url: str
    requests: list[Request] = field(default_factory=list)


def chat_body(text: str = "Hello!", **choice: object) -> dict[str, Any]:
    """A whole chat completion with that text."""
    message = {"role": "assistant", "content": text, "refusal": None}
    whole = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None} | choice
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [whole],
        "usage": usage,
    }


def chat_chunk(text: str = "", *, finish: str | None = None) -> dict[str, Any]:
    """One chunk of a streamed chat completion."""
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
    }


_READ = ("OPENAI_", "OLLAMA_", "VLLM_", "HOSTED_VLLM_", "LLAMACPP_", "NEMOTRON_", "USE_OLLAMA")


@pytest.fixture
def clean_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: empty, and without variables of this machine that engines read."""
    for name in list(os.environ):
        if name.startswith(_READ):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def env_file(clean_folder: Path) -> Callable[..., Path]:
    """Writes a .env file into the current folder."""

    def write(**variables: str) -> Path:
        path = clean_folder / ".env"
        path.write_text("".join(f"{k}={v}\n" for k, v in variables.items()), "utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def gguf() -> Path:
    """The real model's file, pulled into the user's cache if it is not there yet."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is missing; run: pip install 'pytest-llmengine[embedded]'")
    try:
        return models.resolve(MODEL)
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def embedded(gguf: Path) -> EngineConfig:
    """The real small model in llama.cpp; the test is skipped without it."""
    assert gguf.exists()
    return EngineConfig(backend="embedded", model=MODEL)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The class LLM of a stand-in for vLLM, which backend vllm_local uses in this test."""
    if importlib.util.find_spec("vllm") is not None:
        pytest.skip("vLLM itself is here; tests/vllm_local/test_real.py runs on it")
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "vllm_local" / "stand_in"))
    monkeypatch.setattr(session, "_loaded_by", None)
    from vllm import LLM  # noqa: PLC0415 - found only now

    yield LLM
    for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
        del sys.modules[name]


@pytest.fixture
def chat() -> Callable[..., dict[str, Any]]:
    """Makes whole chat completions."""
    return chat_body


@pytest.fixture
def chunk() -> Callable[..., dict[str, Any]]:
    """Makes chunks of streamed chat completions."""
    return chat_chunk


@pytest.fixture
def raw_server() -> Iterator[Callable[[Any], RawServer]]:
    """Starts a server whose handler is called with every request and its connection."""
    started: list[tuple[socketserver.ThreadingTCPServer, threading.Event]] = []

    def start(handler: Any) -> RawServer:
        stopping = threading.Event()
        seen: list[Request] = []

        class Handle(socketserver.StreamRequestHandler):
            disable_nagle_algorithm = True  # otherwise a body comes 40 ms after its headers

            def handle(self) -> None:
                while (request := _read(self.rfile)) is not None:
                    seen.append(request)
                    try:
                        handler(request, Connection(self.connection, stopping))
                    except OSError:
                        return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

        server = Server(("127.0.0.1", 0), Handle)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        started.append((server, stopping))
        return RawServer(f"http://127.0.0.1:{server.server_address[1]}", seen)

    yield start
    for server, stopping in started:
        stopping.set()
        server.shutdown()
        server.socket.close()


def _read(stream: Any) -> Request | None:
    try:
        first = stream.readline().decode().split()
        if not first:
            return None
        headers: dict[str, str] = {}
        while line := stream.readline().decode().strip():
            name, _, value = line.partition(":")
            sent_before = headers.get(name.lower())
            headers[name.lower()] = ", ".join(filter(None, [sent_before, value.strip()]))
        body = stream.read(int(headers.get("content-length", 0)))
    except OSError:
        return None
    return Request(first[0], first[1], headers, body)
