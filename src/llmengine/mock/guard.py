"""Who may talk to the mock server: clients of this machine, and web pages only if asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse

from llmengine.mock.errors import ApiError, openai_envelope

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from llmengine.types.hosts import Visitors


def guarded(app: ASGIApp, visitors: Visitors) -> ASGIApp:
    """The application behind a look at the Host header, with CORS for the origins that may read."""
    if visitors.origins:
        app = CORSMiddleware(
            app, allow_origins=sorted(visitors.origins), allow_methods=["*"], allow_headers=["*"]
        )

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        refusal = visitors.refusal(Headers(scope=scope).get("host"))
        if refusal is None:
            await app(scope, receive, send)
            return
        error = ApiError(refusal, status=403, code="host_not_allowed")
        await JSONResponse(openai_envelope(error), error.status)(scope, receive, send)

    return guard
