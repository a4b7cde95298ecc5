"""The listening socket on a running event loop: uvicorn's HTTP protocol, with an end that is quick.

`uvicorn.Server` polls ten times a second, so that stopping takes a fifth of one; a test suite
starts and stops hundreds of servers.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine

    from starlette.types import ASGIApp, Receive, Scope, Send

_KEEP_ALIVE_SECONDS = 75


class _Protocol(H11Protocol):
    """One connection; the application finds its transport in the scope, to hang up on it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {"transport": transport}


async def listen(app: ASGIApp, listener: socket.socket) -> Callable[[], Coroutine[Any, Any, None]]:
    """Serve on a bound socket of the running loop; await what it returns to close everything."""

    async def quietly(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    config = Config(
        quietly,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Protocol(config, state, {}, loop), sock=listener)

    async def close() -> None:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
        tasks = list(state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    return close
