"""Requests to a server that are not chats: its models, its version, its tokenizer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from llmengine.transport.base import HTTPRequest, Posted
from llmengine.types.errors import BadRequestError, NotFoundError
from llmengine.types.outputs import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.engine.call import Call
    from llmengine.transport.base import HTTPReply, Outgoing


# Time limit of such a request, in seconds. It does not run the model, so it must be answered fast.
_PATIENCE = 20.0
_OK = 200


async def ask(call: Call, url: str, body: Mapping[str, Any] | None = None) -> HTTPReply:
    """The answer to a GET, or to a POST of the body, whatever its status; sent only once."""
    data = None if body is None else to_json(body)
    return await call.when_awake(lambda: call.send(_request(call, url, data)))()


async def post(call: Call, url: str, body: Mapping[str, Any]) -> bytes:
    """The body of a successful answer to a POST, with as many attempts as a chat has.

    For any other status, raises the CallError that stands for it.
    """

    async def once() -> bytes:
        reply = await call.send(_request(call, url, to_json(body)))
        if reply.status != _OK:
            raise call.refusal(reply.status, reply.headers, reply.body)
        return reply.body

    return await call.retried(once, call.engine.config.max_retries)


def object_in(reply: HTTPReply) -> dict[str, Any]:
    """The JSON object of a successful answer; an empty object for anything else."""
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


async def fingerprint_of(call: Call) -> Fingerprint:
    """What the server reports on ``/models``, and its version if the backend has a route for it.

    If the server has no list of models, the fields from that list are None. Raises
    AuthenticationError if the key is refused, and the CallError of any failure other than "bad
    request" (400) or "not found" (404).
    """
    engine = call.engine
    listed = await _models(call)
    names = None if listed is None else tuple(str(row["id"]) for row in listed)
    model = engine.model or (names[0] if names is not None and len(names) == 1 else None)
    row = next((row for row in listed or () if row["id"] == model), {})
    return Fingerprint(
        engine.base_url,
        await _version(call),
        model,
        names,
        _text(row.get("root")),
        row.get("max_model_len") if isinstance(row.get("max_model_len"), int) else None,
        _text(row.get("owned_by")),
    )


def rows(body: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects in the list under a key; an empty list if there is no such list."""
    found = body.get(key)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


async def _models(call: Call) -> list[dict[str, Any]] | None:
    reply = await ask(call, f"{call.engine.base_url}/models")
    if reply.status == _OK:
        return [row for row in rows(object_in(reply), "data") if "id" in row]
    error = call.refusal(reply.status, reply.headers, reply.body)
    if isinstance(error, BadRequestError | NotFoundError):
        return None
    raise error


async def _version(call: Call) -> str | None:
    """The version, if the route answers one; a gateway may answer anything at all there."""
    path = call.engine.version_path
    if path is None:
        return None
    return _text(object_in(await ask(call, call.engine.root_url + path)).get("version"))


def _text(value: object) -> str | None:
    return str(value) if value else None
