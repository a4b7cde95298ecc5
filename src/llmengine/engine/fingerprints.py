"""Asking a server who it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.engine.asides import ask, object_in
from llmengine.types.errors import BadRequestError, NotFoundError
from llmengine.types.outputs import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.engine.calls import Call

_OK = 200


async def fingerprint_of(call: Call) -> Fingerprint:
    """What the server tells on ``/models``, and of its version where its backend has a route.

    A server without a list of models tells nothing of them. Raises AuthenticationError where the
    key is refused, and the CallError of any failure that is not a plain "no such thing".
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
    """The objects in the list under a key; none where there is no such list."""
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
    """A version is a courtesy: a gateway may answer anything at all on that route."""
    path = call.engine.version_path
    if path is None:
        return None
    return _text(object_in(await ask(call, call.engine.root_url + path)).get("version"))


def _text(value: object) -> str | None:
    return str(value) if value else None
