"""Asks a running server who it is: one clear error spares a hundred failures."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import httpx

from llmengine.embedded.models import resolve
from llmengine.engines.embedded import Embedded
from llmengine.values.secrets import scrub
from pytest_llmengine.recording import Provenance
from pytest_llmengine.targets.backends import facts
from pytest_llmengine.targets.errors import TargetError

if TYPE_CHECKING:
    from llmengine.engine.engine import Engine

_SECONDS = 20.0
_MAX_SHOWN = 200
_NO_KEY = frozenset({httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN})


def identify(engine: Engine) -> Provenance:
    """What the server says of itself: version, model and the digest of the model where known.

    An engine without a model gets the only one that the server lists. Raises TargetError when
    nothing answers, the key is refused, or there is no such model.
    """
    with _client(engine) as client:
        try:
            model = _model(client, engine)
            return Provenance(
                engine=facts(engine.backend).server,
                version=_version(client, engine),
                model=model,
                model_digest=_digest(client, engine, model),
            )
        except httpx.TransportError as error:
            raise TargetError(
                f"engine {engine.name!r}: nothing answers at {engine.base_url} "
                f"({error or type(error).__name__}); start the server, or correct the address"
            ) from error


def _client(engine: Engine) -> httpx.Client:
    return httpx.Client(headers=engine.headers, timeout=_SECONDS, trust_env=False)


def _model(client: httpx.Client, engine: Engine) -> str:
    reply = client.get(f"{engine.base_url}/models")
    if reply.status_code in _NO_KEY:
        raise TargetError(_key_is_refused(engine, reply))
    listed = _listed(reply)
    model = engine.model or _only(listed, engine)
    _try(client, engine, model, listed)
    return model


def _only(listed: list[str] | None, engine: Engine) -> str:
    if listed is not None and len(listed) == 1:
        return listed[0]
    names = f"it has {', '.join(listed)}" if listed else "the server lists none"
    raise TargetError(f"engine {engine.name!r} has no model: give --engine-model; {names}")


def _try(client: httpx.Client, engine: Engine, model: str, listed: list[str] | None) -> None:
    """Ask for one token; whatever else is wrong with the answer is for the checks to judge.

    A list is not enough: it may be open where the chat needs a key, and a server may know models
    that it does not list, such as aliases.
    """
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": model, "messages": messages, "max_tokens": 1}
    reply = client.post(f"{engine.base_url}/chat/completions", json=body)
    if reply.status_code in _NO_KEY:
        raise TargetError(_key_is_refused(engine, reply))
    if not reply.is_client_error:
        return
    if listed is not None and model not in listed:
        names = ", ".join(listed) or "none at all"
        raise TargetError(
            f"engine {engine.name!r}: {engine.base_url} has no model {model!r} "
            f"({_said(reply)}); it has {names}; give --engine-model"
        )
    if listed is None and reply.status_code == httpx.codes.NOT_FOUND:
        raise TargetError(
            f"engine {engine.name!r}: {engine.base_url} has no /chat/completions (404); "
            "the address of an OpenAI-style API usually ends in /v1"
        )


def _version(client: httpx.Client, engine: Engine) -> str | None:
    if isinstance(engine, Embedded) and engine.config.endpoint is None:
        return _llama_cpp_build(engine.server.version)
    path = facts(engine.backend).version_path
    if not path:
        return None
    version = _object(client.get(engine.root_url + path)).get("version")
    return str(version) if version else None


def _llama_cpp_build(version: str) -> str:
    """llama.cpp's own build number, which is the last part of xllamacpp's version."""
    return f"b{version.rpartition('.')[2]}"


def _digest(client: httpx.Client, engine: Engine, model: str) -> str | None:
    """The hash of the weights, where the file is here or the server tells."""
    if isinstance(engine, Embedded) and engine.config.endpoint is None:
        with resolve(engine.model).open("rb") as weights:
            return f"sha256:{hashlib.file_digest(weights, 'sha256').hexdigest()}"
    if engine.backend != "ollama_api":
        return None
    names = {model, f"{model}:latest"}
    rows = _rows(_object(client.get(f"{engine.root_url}/api/tags")), "models")
    return next((str(r["digest"]) for r in rows if r.get("name") in names and "digest" in r), None)


def _listed(reply: httpx.Response) -> list[str] | None:
    """The names that the server lists; None where it has no such list."""
    if not reply.is_success:
        return None
    return [str(row["id"]) for row in _rows(_object(reply), "data") if "id" in row]


def _rows(body: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = body.get(key)
    return [r for r in rows if isinstance(r, dict)] if isinstance(rows, list) else []


def _object(reply: httpx.Response) -> dict[str, Any]:
    try:
        value = reply.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _key_is_refused(engine: Engine, reply: httpx.Response) -> str:
    own = "LLMENGINE_API_KEY (with --engine-url), or api_key_env in the engines file"
    variables = f"{engine.key_env} or {own}" if engine.key_env else own
    what = "does not accept the key" if engine.api_key else "asks for a key"
    return f"engine {engine.name!r}: {engine.base_url} {what} ({_said(reply)}); set {variables}"


def _said(reply: httpx.Response) -> str:
    """The status and the server's own words, or the start of the body where it has none."""
    error = _object(reply).get("error")
    message = error.get("message") if isinstance(error, dict) else error
    words = " ".join(str(message or reply.text).split())
    return scrub(f"{reply.status_code} {words[:_MAX_SHOWN]}".strip())
