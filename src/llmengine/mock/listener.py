"""The mock's HTTP server: uvicorn's protocol, with a check of the Host header before the app.

It does not use `uvicorn.Server`, which polls ten times a second: stopping that takes a fifth of a
second, and a test suite starts and stops hundreds of servers. This is a file of its own because
starlette and uvicorn are heavy and should be imported only when a server starts.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from llmengine.mock.wire import ApiError, openai_envelope

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine

    from starlette.types import ASGIApp, Receive, Scope, Send

    from llmengine.types.hosts import AllowedClients


def with_host_check(app: ASGIApp, clients: AllowedClients) -> ASGIApp:
    """Add a check of the Host header and CORS for the allowed origins to the application."""
    if clients.origins:
        app = CORSMiddleware(
            app, allow_origins=sorted(clients.origins), allow_methods=["*"], allow_headers=["*"]
        )

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        refusal = clients.refusal(Headers(scope=scope).get("host"))
        if refusal is None:
            await app(scope, receive, send)
            return
        error = ApiError(refusal, status=403, code="host_not_allowed")
        await JSONResponse(openai_envelope(error), error.status)(scope, receive, send)

    return checked


_KEEP_ALIVE_SECONDS = 75


class _Protocol(H11Protocol):
    """One connection; the scope holds its transport, so that the application can close it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {"transport": transport}


async def listen(
    app: ASGIApp, listener: socket.socket
) -> Callable[[], Coroutine[object, object, None]]:
    """Serve on a bound socket; await the returned function to close everything."""

    async def cancellable(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(asyncio.CancelledError, ClientDisconnect):
            await app(scope, receive, send)

    config = Config(
        cancellable,
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
