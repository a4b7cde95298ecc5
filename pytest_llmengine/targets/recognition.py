"""What answers at an address: whether it answers one token, and which server program it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from llmengine.dialects.errors import read_envelope
from llmengine.types.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    CallError,
)
from llmengine.types.request import one_token_chat
from llmengine.types.secrets import scrub
from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.outcomes import CheckEnded, Fail, NoVerdict
from pytest_llmengine.contract.profile import shipped_profiles
from pytest_llmengine.contract.target import Target
from pytest_llmengine.recording import Provenance
from pytest_llmengine.targets.advice import choose_model
from pytest_llmengine.targets.settings import TargetError, facts

if TYPE_CHECKING:
    from llmengine.engine.engine import Engine
    from llmengine.types.outputs import Fingerprint
    from pytest_llmengine.contract.reply import Reply

_TOKEN_SECONDS = 20.0  # the limit for an answer of one token
_MAX_SHOWN = 200
_KEY_REFUSED = frozenset({httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN})
_ROUTE_SECONDS = 5.0  # the limit for a request to a route that only one server has


def identify(engine: Engine, otherwise: str = "") -> Provenance:
    """What the server says about itself, after it has answered a chat request of one token.

    An engine without a model gets the only model that the server lists. Raises TargetError if
    nothing answers (then ``otherwise`` is further advice), if the key is refused, or if the server
    does not have the model.
    """
    try:
        found = engine.fingerprint()
        if not found.model:
            raise TargetError(_needs_model(engine, found))
        reply = _answer_one_token(engine, found)
    except AuthenticationError as error:
        raise TargetError(_key_is_refused(engine, error.status, error.body or "")) from error
    except (APIConnectionError, APITimeoutError, NoVerdict) as error:
        raise TargetError(
            f"engine {engine.name!r}: nothing answers at {engine.base_url} "
            f"({error or type(error).__name__}); start the server, or correct the address"
            f"{otherwise}"
        ) from error
    except CallError as error:
        raise TargetError(f"engine {engine.name!r}: {engine.base_url}: {error}") from error
    backend = engine.backend.name
    server = facts(backend).server
    if server == backend and reply is not None:  # a generic backend: any program may answer
        server = recognised(engine, found, reply) or server
    auth = "bearer" if engine.api_key else None
    return Provenance(server, found.version, found.model, found.model_digest, auth)


def _needs_model(engine: Engine, found: Fingerprint) -> str:
    names = f"it has {', '.join(found.models)}" if found.models else "the server lists none"
    choose = choose_model(engine.name, engine.backend.name)
    return f"engine {engine.name!r} has no model: {choose}; {names}"


def _answer_one_token(engine: Engine, found: Fingerprint) -> Reply | None:
    """The answer to a chat request of one token; None if the answer broke off.

    The checks judge everything else that may be wrong with the answer.

    The list of models would not be enough: it may be open although the chat needs a key, and a
    server may have models that it does not list, such as aliases.
    """
    body = one_token_chat(str(found.model))
    with Target(
        engine.base_url,
        str(found.model),
        limits=Limits(answer=_TOKEN_SECONDS),
        query=engine.backend.address.query,
    ) as target:
        try:
            reply = target.post("/chat/completions", body, headers=engine.backend.address.headers)
        except Fail:
            return None  # the answer broke off or did not end
    if reply.status in _KEY_REFUSED:
        raise TargetError(_key_is_refused(engine, reply.status, reply.text))
    if not httpx.codes.is_client_error(reply.status):
        return reply
    if found.models is not None and found.model not in found.models:
        names = ", ".join(found.models) or "none at all"
        raise TargetError(
            f"engine {engine.name!r}: {engine.base_url} has no model {found.model!r} "
            f"({_status_text(reply.status, reply.text)}); it has {names}; "
            f"{choose_model(engine.name, engine.backend.name)}{_pull(engine, found)}"
        )
    if found.models is None and reply.status == httpx.codes.NOT_FOUND:
        raise TargetError(
            f"engine {engine.name!r}: {engine.base_url} has no /chat/completions (404); "
            "the address of an OpenAI-style API usually ends in /v1"
        )
    return reply


def _pull(engine: Engine, found: Fingerprint) -> str:
    command = facts(engine.backend.name).get_model
    return f", or get it by `{command} {found.model}`" if command else ""


def _key_is_refused(engine: Engine, status: int | None, body: str) -> str:
    what = "does not accept the key" if engine.api_key else "asks for a key"
    problem = f"{what} ({_status_text(status, body)}); {_key_advice(engine)}"
    return f"engine {engine.name!r}: {engine.base_url} {problem}"


def _key_advice(engine: Engine) -> str:
    own = "LLMENGINE_API_KEY (with --engine-url), or api_key_env in the engines file"
    variable = engine.backend.key_env
    if variable is None:
        return f"set {own}"
    if engine.api_key is None and os.environ.get(variable):
        address = engine.backend.endpoint_env[0]
        return (
            f"{variable} is sent to the address in {address}: set {address} to this address, "
            f"or set {own}"
        )
    return f"set {variable} or {own}"


def _status_text(status: int | None, body: str) -> str:
    """The status and the server's error message, or the start of the body if it has no message."""
    message = " ".join((read_envelope(body.encode()).message or body).split())
    return scrub(f"{status} {message[:_MAX_SHOWN]}".strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownServer:
    """A server program and the signs by which it is recognised; one sign is enough.

    ``backend`` is our backend for it, "" if there is none. ``header`` is the name of a header that
    all its answers have, and the start of the value. ``owned_by`` is a value in its list of
    models. ``fingerprint`` is the start of its system_fingerprint. ``route`` is a path outside
    ``/v1`` that only this server has, and a key of the JSON object there.
    """

    name: str
    backend: str = ""
    header: tuple[str, str] | None = None
    owned_by: str | None = None
    fingerprint: str | None = None
    route: tuple[str, str] | None = None


# Gateways come first, because their answers also show the signs of the server behind them.
SERVERS = (
    KnownServer(name="LiteLLM", header=("x-litellm-version", "")),
    KnownServer(name="vLLM", backend="vllm_api", owned_by="vllm"),
    KnownServer(
        name="llama.cpp",
        backend="embedded",
        header=("server", "llama.cpp"),
        owned_by="llamacpp",
        route=("/props", "default_generation_settings"),
    ),
    KnownServer(
        name="Ollama",
        backend="ollama_api",
        owned_by="library",
        fingerprint="fp_ollama",
        route=("/api/version", "version"),
    ),
    KnownServer(name="SGLang", owned_by="sglang", route=("/get_model_info", "model_path")),
    KnownServer(name="LM Studio", owned_by="organization_owner", route=("/api/v0/models", "data")),
    KnownServer(name="TGI", route=("/info", "docker_label")),
    KnownServer(name="LMDeploy", owned_by="lmdeploy"),
    KnownServer(name="TensorRT-LLM", owned_by="tensorrt_llm"),
    KnownServer(name="TabbyAPI", owned_by="tabbyAPI"),
    KnownServer(name="llama-cpp-python", owned_by="me"),
    KnownServer(name="OpenAI", backend="openai", header=("openai-version", "")),
    KnownServer(name="mock", backend="mock", owned_by="llmengine"),
)


def recognised(engine: Engine, found: Fingerprint, reply: Reply) -> str | None:
    """The name of the server program; `reply` is its answer to a chat request.

    Routes are requested only if no other sign is found, and without a key.
    """
    for server in SERVERS:
        if _has_sign(server, found, reply):
            return server.name
    with Target(engine.root_url, "", limits=Limits(answer=_ROUTE_SECONDS)) as target:
        return next((s.name for s in SERVERS if s.route and _has(target, *s.route)), None)


def profile_advice(backend: str, server: str | None) -> str:
    """Advice for a server that was recognised but is checked without a profile; "" if none."""
    known = next((s for s in SERVERS if s.name == server and s.name != "mock"), None)
    shipped = shipped_profiles()
    if known is None or backend in shipped:
        return ""
    if known.backend in shipped:
        return (
            f"The server looks like {known.name}: --engine {known.backend} holds it to the profile "
            "that is shipped for it."
        )
    return (
        f"The server looks like {known.name}, for which no profile is shipped: `llmengine verify "
        "--write-profile FILE` makes one of what it does."
    )


def _has_sign(server: KnownServer, found: Fingerprint, reply: Reply) -> bool:
    fingerprint = _system_fingerprint(reply)
    return (
        (
            server.header is not None
            and _starts(reply.headers.get(server.header[0]), server.header[1])
        )
        or (server.owned_by is not None and found.owned_by == server.owned_by)
        or (server.fingerprint is not None and _starts(fingerprint, server.fingerprint))
    )


def _starts(value: object, start: str) -> bool:
    return isinstance(value, str) and value.startswith(start)


def _system_fingerprint(reply: Reply) -> object:
    body = _object(reply)
    return body.get("system_fingerprint")


def _has(target: Target, path: str, key: str) -> bool:
    try:
        reply = target.get(path)
    except CheckEnded:
        return False  # a missing answer proves nothing
    return reply.ok and key in _object(reply)


def _object(reply: Reply) -> dict[str, Any]:
    try:
        return reply.object()
    except CheckEnded:
        return {}
