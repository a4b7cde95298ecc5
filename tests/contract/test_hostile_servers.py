"""No rule passes on a server that hangs, resets connections, or sends an answer without an end."""

from __future__ import annotations

import socket
import struct
import threading
from functools import partial
from itertools import chain, repeat
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING

import pytest

from pytest_llmengine.contract import Target
from pytest_llmengine.contract.jobs import in_order
from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.contract.runner import run_check

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_llmengine.contract.registry import Check
    from pytest_llmengine.contract.runner import CheckResult

CHECKS = [check for check in catalogue().values() if check.driver is None]
LIMITS = Limits(answer=0.2, check=0.5)
RESET = struct.pack("ii", 1, 0)
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
WHOLE = STREAM.replace(b"text/event-stream", b"application/json")
EVENT = b'data: {"id": "1", "choices": [], "type": "response.created"}\n\n'

# The pieces that a server sends, 20 ms after one another, and whether it resets at the end.
SERVERS: dict[str, tuple[Iterable[bytes], bool]] = {
    "hangs": (repeat(b""), False),
    "resets": ((), True),
    "resets after the headers": ((WHOLE,), True),
    "sends events without end": (chain((STREAM,), repeat(EVENT)), False),
    "sends a byte at a time": (chain((WHOLE,), repeat(b" ")), False),
    "sends its headers a byte at a time": ((WHOLE[i : i + 1] for i in repeat(0)), False),
}


@pytest.fixture(params=SERVERS)
def hostile(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a server that answers each request in one hostile way."""
    pieces, resets = SERVERS[request.param]
    pieces = pieces if isinstance(pieces, tuple) else list(_first(pieces, 200))
    over = threading.Event()

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            connection: socket.socket = self.request
            try:
                connection.recv(65_536)
                for piece in pieces:
                    connection.sendall(piece)
                    if over.wait(0.02):
                        break
            except OSError:
                return  # the check has gone
            if resets:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    class Server(ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        over.set()
        server.shutdown()


def _first(pieces: Iterable[bytes], count: int) -> Iterable[bytes]:
    return (piece for piece, _ in zip(pieces, range(count), strict=False))


def test_no_rule_passes(hostile: str) -> None:
    """Every check fails or has no verdict, each within its own time."""
    results = in_order([partial(_run, check, hostile) for check in CHECKS], 24)
    bad = {r.check.id: (r.outcome, r.reason) for r in results if r.outcome not in _NOT_KEPT}
    assert bad == {}


_NOT_KEPT = {Outcome.FAIL, Outcome.ERROR}


def _run(check: Check, url: str) -> CheckResult:
    with Target(url, "m", api_key="sk-of-this-test", limits=LIMITS) as target:
        return run_check(check, target, Profile("x"))
