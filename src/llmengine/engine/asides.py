"""Requests to a server that are no chats: who it is, how it cuts a text into tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from llmengine.transport.base import HTTPRequest, Posted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.engine.calls import Call
    from llmengine.transport.base import HTTPReply, Outgoing

# No model has to run for them, so a server that takes longer is not one to wait for.
_PATIENCE = 20.0
_OK = 200


async def ask(call: Call, url: str, body: Mapping[str, Any] | None = None) -> HTTPReply:
    """The answer to a GET, or to a POST of the body, whatever its status; asked once."""
    data = None if body is None else to_json(body)
    return await call.when_awake(lambda: call.send(_request(call, url, data)))()


async def post(call: Call, url: str, body: Mapping[str, Any]) -> bytes:
    """The body of a successful answer to a POST, in as many attempts as a chat gets.

    Raises the CallError that any other status means.
    """

    async def once() -> bytes:
        reply = await call.send(_request(call, url, to_json(body)))
        if reply.status != _OK:
            raise call.refusal(reply.status, reply.headers, reply.body)
        return reply.body

    return await call.retried(once, call.engine.config.max_retries)


def object_in(reply: HTTPReply) -> dict[str, Any]:
    """The JSON object of a successful answer; an empty one for anything else."""
    if reply.status != _OK:
        return {}
    try:
        value = from_json(reply.body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _request(call: Call, url: str, body: bytes | None = None) -> Outgoing:
    engine = call.engine
    clocks = engine.config.timeout
    total = _PATIENCE if clocks.total is None else min(_PATIENCE, clocks.total)
    sent_to, limits = engine.sent_to(url), engine.config.limits
    http = HTTPRequest(sent_to, engine.headers, body or b"", clocks.connect, total, limits=limits)
    return Posted(call.transport, http if body is not None else replace(http, method="GET"))
