"""What the mock server listens with: uvicorn's HTTP protocol behind a check of the Host header.

It uses uvicorn's protocol but not `uvicorn.Server`, which polls ten times a second: stopping it
takes a fifth of a second, and a test suite starts and stops hundreds of servers. It is a file of
its own because starlette and uvicorn are heavy, and are imported only when a server starts.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
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


def guarded(app: ASGIApp, clients: AllowedClients) -> ASGIApp:
    """The application with a check of the Host header and CORS for the allowed origins."""
    if clients.origins:
        app = CORSMiddleware(
            app, allow_origins=sorted(clients.origins), allow_methods=["*"], allow_headers=["*"]
        )

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        refusal = clients.refusal(Headers(scope=scope).get("host"))
        if refusal is None:
            await app(scope, receive, send)
            return
        error = ApiError(refusal, status=403, code="host_not_allowed")
        await JSONResponse(openai_envelope(error), error.status)(scope, receive, send)

    return guard


_KEEP_ALIVE_SECONDS = 75


class _Protocol(H11Protocol):
    """One connection; its transport is in the scope, so that the application can close it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {"transport": transport}


async def listen(app: ASGIApp, listener: socket.socket) -> Callable[[], Coroutine[Any, Any, None]]:
    """Serve on a bound socket; await the returned function to close everything."""

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
