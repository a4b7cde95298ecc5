"""A server that accepts a connection and never answers the TLS handshake."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import APITimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A socket that listens, and whose connections say nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        yield server


@pytest.mark.parametrize("ask", ["results", "stream"])
def test_total_clock_closes_the_connection(
    sent: Any, silent: socket.socket, clock: Any, in_thread: Any, ask: str
) -> None:
    """When the total clock ends the call, its connection is closed and not only forgotten."""
    engine, _ = sent(
        None,
        endpoint=f"https://127.0.0.1:{silent.getsockname()[1]}/v1",
        timeout={"connect": 60, "total": 20},
    )
    asked = in_thread(lambda: list(getattr(engine, ask)("hi")))
    connection, _ = silent.accept()
    with connection:
        connection.settimeout(30)
        assert connection.recv(1)  # the handshake has started
        clock.settle()
        clock.advance(21)

        _read_to_the_end(connection)

    error = asked.exception(30) or asked.result()[0].error
    assert isinstance(error, APITimeoutError)
    assert error.clock == "total"


def _read_to_the_end(connection: socket.socket) -> None:
    """Return when the client has closed the connection; fails if it does not."""
    with suppress(ConnectionResetError):
        while connection.recv(65536):
            pass
