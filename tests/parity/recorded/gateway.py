"""A gateway that changes fields of every chat request, to record the effect.

python gateway.py PORT UPSTREAM temperature=0.7 seed=null, or python gateway.py PORT UPSTREAM
max_tokens=-1 (an offset to the requested value)
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request


def gateway(upstream: str, changes: dict[str, Any]) -> Starlette:
    """The gateway in front of `upstream`."""
    client = httpx.AsyncClient(base_url=upstream, timeout=None)

    async def forward(request: Request) -> Response:
        body = await request.body()
        if request.url.path.endswith("/chat/completions"):
            body = json.dumps(_changed(json.loads(body), changes)).encode()
        kind = {"Content-Type": "application/json"}
        reply = await client.request(request.method, request.url.path, content=body, headers=kind)
        return Response(reply.content, reply.status_code, media_type=reply.headers["content-type"])

    return Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST"])])


def _changed(body: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    offset = changes.get("max_tokens", 0)
    return {**body, **changes, "max_tokens": body["max_tokens"] + offset}


if __name__ == "__main__":
    port, address, *given = sys.argv[1:]
    pairs = (text.partition("=") for text in given)
    fields = {name: json.loads(value) for name, _, value in pairs}
    uvicorn.run(gateway(address, fields), port=int(port), log_level="warning")
