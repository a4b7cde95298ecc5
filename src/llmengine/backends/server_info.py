"""Requests to a server that are not chats: its models, its version, its tokenizer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic_core import from_json, to_json

from llmengine.types.errors import BadRequestError, CallError, NotFoundError
from llmengine.types.outputs import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.backends.connection import Connection
    from llmengine.transport.base import HTTPReply, HTTPRequest
    from llmengine.transport.limiter import Permit


# The time limit of such a request, in seconds. It does not run the model, so an answer is fast.
_TIMEOUT = 20.0
_OK = 200


async def ask(
    connection: Connection, url: str, body: Mapping[str, object] | None = None
) -> HTTPReply:
    """The answer to a GET, or to a POST of the body, whatever its status; sent only once."""
    request = _request(connection, url, None if body is None else to_json(body))
    return await connection.in_turn(partial(connection.send, request))()


async def post(connection: Connection, url: str, body: Mapping[str, object]) -> bytes:
    """The body of a successful answer to a POST, with as many attempts as a chat has.

    For any other status, raises the CallError that stands for it.
    """
    request = _request(connection, url, to_json(body))

    async def once(permit: Permit) -> bytes:
        reply = await connection.send(request, permit)
        if reply.status != _OK:
            raise connection.refusal(reply.status, reply.headers, reply.body)
        return reply.body

    return await connection.retried(once)


def object_in(reply: HTTPReply) -> dict[str, object]:
    """The JSON object of a successful answer; an empty object for anything else."""
    if reply.status != _OK:
        return {}
    try:
        value = from_json(reply.body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _request(connection: Connection, url: str, body: bytes | None) -> HTTPRequest:
    total = connection.config.timeout.total
    return connection.request(url, body, _TIMEOUT if total is None else min(_TIMEOUT, total))


async def fingerprint_of(connection: Connection, version_path: str | None) -> Fingerprint:
    """What the server reports on ``/models``, and its version if it has a route for it.

    If the server has no list of models, the fields from that list are None. Raises
    AuthenticationError if the key is refused, and the CallError of any failure other than "bad
    request" (400) or "not found" (404). If only the version cannot be had, ``problem`` says why.
    """
    listed = await _models(connection)
    version, problem = await _version(connection, version_path)
    names = None if listed is None else tuple(str(row["id"]) for row in listed)
    only = names[0] if names is not None and len(names) == 1 else None
    model = connection.config.model or only
    row = next((row for row in listed or () if row["id"] == model), {})
    length = row.get("max_model_len")
    return Fingerprint(
        connection.urls.base,
        version,
        model,
        names,
        _text(row.get("root")),
        length if isinstance(length, int) else None,
        _text(row.get("owned_by")),
        problem=problem,
    )


def rows(body: Mapping[str, object], key: str) -> list[dict[str, object]]:
    """The objects in the list under a key; an empty list if there is no such list."""
    found = body.get(key)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


async def _models(connection: Connection) -> list[dict[str, object]] | None:
    reply = await ask(connection, f"{connection.urls.base}/models")
    if reply.status == _OK:
        return [row for row in rows(object_in(reply), "data") if "id" in row]
    error = connection.refusal(reply.status, reply.headers, reply.body)
    if isinstance(error, BadRequestError | NotFoundError):
        return None
    raise error


async def _version(connection: Connection, path: str | None) -> tuple[str | None, str]:
    """The version, if the route answers with one, and why the route did not answer at all.

    A gateway may answer with anything else than a version.
    """
    if path is None:
        return None, ""
    try:
        reply = await ask(connection, connection.urls.root + path)
    except CallError as error:
        return None, f"GET {path}: {error}"
    return _text(object_in(reply).get("version")), ""


def _text(value: object) -> str | None:
    return str(value) if value else None
