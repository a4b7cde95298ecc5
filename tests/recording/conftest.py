"""A server that sends exactly the given bytes, and clients for the proxies."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 10.0

Ask = Callable[..., httpx.Response]
ChunksOf = Callable[[str], list[bytes]]
Kept = Callable[[Path], list[dict[str, Any]]]
Step = bytes | threading.Event | None
StreamOf = Callable[..., list[bytes]]
Whole = Callable[..., bytes]


class RawUpstream:
    """Plays one script per connection: sends bytes, waits for events, and then closes.

    None in a script waits until the other end has closed.
    """

    def __init__(self) -> None:
        self.scripts: list[list[Step]] = []
        self.requests: list[bytes] = []
        self.arrived = threading.Semaphore(0)
        self.left = threading.Semaphore(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def will_send(self, *script: Step) -> None:
        """Play this script on the next connection."""
        self.scripts.append(list(script))

    def stop(self) -> None:
        """Close, and wait for the scripts to end."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            script = self.scripts.pop(0)
            thread = threading.Thread(target=self._play, args=(connection, script), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _play(self, connection: socket.socket, script: list[Step]) -> None:
        with connection:
            self.requests.append(_read_request(connection))
            self.arrived.release()
            for step in script:
                if step is None:
                    self._wait_until_left(connection)
                    return
                if isinstance(step, threading.Event):
                    assert step.wait(PATIENCE)
                else:
                    connection.sendall(step)
            connection.shutdown(socket.SHUT_WR)
            self._wait_until_left(connection)

    def _wait_until_left(self, connection: socket.socket) -> None:
        while connection.recv(65536):
            pass
        self.left.release()


def _read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if b"transfer-encoding" in fields:
        while not body.endswith(b"0\r\n\r\n"):
            body += connection.recv(65536)
    while len(body) < int(fields.get(b"content-length", 0)):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _whole(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def _head(content_type: str = "text/event-stream") -> bytes:
    return (
        f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()


@pytest.fixture
def upstream() -> Iterator[RawUpstream]:
    """A raw server on loopback."""
    server = RawUpstream()
    yield server
    server.stop()


@pytest.fixture
def whole() -> Whole:
    """An HTTP answer with Content-Length."""
    return _whole


@pytest.fixture
def stream_of() -> StreamOf:
    """An HTTP answer in chunks, each sent by itself."""
    return lambda *chunks: [_head(), *map(_chunk, chunks), b"0\r\n\r\n"]


@pytest.fixture
def cut_stream_of() -> StreamOf:
    """The same, but closed after the last chunk without the end of the body."""
    return lambda *chunks: [_head(), *map(_chunk, chunks)]


class ManualClock:
    """A clock that moves when a test moves it, and when someone sleeps on it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def time(self) -> float:
        """The present time."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Move the time on at once."""
        self.slept.append(round(seconds, 3))
        self.now += seconds


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock for recorders and replayers."""
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the cassette."""
    return tmp_path / "cassettes" / "one.yaml"


@pytest.fixture(scope="session")
def client() -> Iterator[httpx.Client]:
    """One client for all tests, since it takes longer to make than most tests."""
    with httpx.Client(trust_env=False, verify=False) as client:
        yield client


@pytest.fixture
def ask(client: httpx.Client) -> Ask:
    """POST JSON to a server and read the answer whole."""

    def post(root_url: str, body: Any = None, path: str = "/v1/chat", **options: Any) -> Any:
        json = {} if "content" in options or "files" in options else {"json": body or {"n": 1}}
        return client.post(root_url + path, **json, **options)

    return post


@pytest.fixture
def chunks_of(client: httpx.Client) -> ChunksOf:
    """The chunks of a GET, up to the end or to the break of the connection."""

    def get(url: str) -> list[bytes]:
        chunks: list[bytes] = []
        with client.stream("GET", url) as response:
            try:
                chunks.extend(response.iter_raw())
            except httpx.RemoteProtocolError:
                chunks.append(b"<broken>")
        return chunks

    return get


@pytest.fixture
def kept() -> Kept:
    """The interactions in a file, read by a plain safe YAML loader."""
    return lambda path: yaml.safe_load(path.read_text(encoding="utf-8"))["interactions"]
