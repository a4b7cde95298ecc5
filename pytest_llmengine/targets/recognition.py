"""What answers at an address: whether it answers one token, and which server program it is."""

from __future__ import annotations

import os
from contextlib import contextmanager
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
from llmengine.types.outputs import Fingerprint
from llmengine.types.request import one_token_chat
from llmengine.types.secrets import scrub
from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.outcomes import CheckEnded, Fail, NoVerdict
from pytest_llmengine.contract.profile import shipped_profiles
from pytest_llmengine.contract.target import Target
from pytest_llmengine.recording import Provenance
from pytest_llmengine.targets.advice import choose_model
from pytest_llmengine.targets.settings import EngineMissing, TargetError, facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.engine.engine import Engine
    from pytest_llmengine.contract.reply import Reply

_TOKEN_SECONDS = 20.0  # the limit for an answer of one token
_MAX_SHOWN = 200
_KEY_REFUSED = frozenset({httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN})
_ROUTE_SECONDS = 5.0  # the limit for all requests to routes that only one server has


@dataclass(frozen=True, slots=True)
class Identity:
    """Which server answers, and what it did not say about itself because of a problem, if any."""

    provenance: Provenance
    problem: str = ""


def identify(engine: Engine, otherwise: str = "") -> Identity:
    """What the server says about itself, after it has answered a chat request of one token.

    An engine without a model gets the only model that the server lists. For an engine with a model,
    a list of models that is late or answered with an error is a problem and not the end. Raises
    TargetError if nothing answers (then ``otherwise`` is further advice), if the key is refused, or
    if the server does not have the model.
    """
    try:
        found = _fingerprint(engine)
        if not found.model:
            raise TargetError(_needs_model(engine, found))
        reply = _answer_one_token(engine, found)
    except AuthenticationError as error:
        raise TargetError(_key_is_refused(engine, error.status, error.body or "")) from error
    except (APIConnectionError, APITimeoutError, NoVerdict) as error:
        raise EngineMissing(
            f"engine {engine.name!r}: nothing answers at {engine.base_url} "
            f"({error or type(error).__name__}); start the server, or correct the address"
            f"{otherwise}"
        ) from error
    except CallError as error:
        raise TargetError(f"engine {engine.name!r}: {engine.base_url}: {error}") from error
    backend = engine.backend.name
    server, version = facts(backend).server, found.version
    if server == backend and reply is not None:  # a generic backend: any program may answer
        known = recognised(engine, found, reply)
        if known is not None:
            server, version = known.name, _version(engine, found, known, reply)
    auth = "bearer" if engine.api_key else None
    provenance = Provenance(server, version, found.model, found.model_digest, auth)
    return Identity(provenance, found.problem)


def _fingerprint(engine: Engine) -> Fingerprint:
    """What the server reports about itself, or the configured model and the problem with that."""
    try:
        return engine.fingerprint()
    except (AuthenticationError, APIConnectionError):
        raise
    except CallError as error:
        if not engine.model:
            raise
        problem = f"GET /models: {error or type(error).__name__}"
        return Fingerprint(engine.base_url, model=engine.model, problem=problem)


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
    ``/v1`` that only this server has, and a key of the JSON object there. Its version is in the
    header ``version_header``, or at the path ``version_route`` under the key there.
    """

    name: str
    backend: str = ""
    header: tuple[str, str] | None = None
    owned_by: str | None = None
    fingerprint: str | None = None
    route: tuple[str, str] | None = None
    version_header: str = ""
    version_route: tuple[str, str] | None = None


# A value of "server" such as uvicorn or nginx names a library or a proxy and not the server, so
# only headers that one program sends are here. Where each is set:
# - x-litellm-version: litellm/proxy/common_request_processing.py
# - x-portkey-trace-id: src/handlers/services/responseService.ts of Portkey-AI/gateway
# - cf-aig-log-id: https://developers.cloudflare.com/ai-gateway/observability/logging/
# - x-kong-llm-model: the plugin ai-proxy of Kong, https://github.com/Kong/kong/pull/13472
# - server: llama.cpp: tools/server/server-http.cpp of llama.cpp
# - openai-version: https://platform.openai.com/docs/api-reference/debugging-requests
# Gateways come first, because their answers also show the signs of the server behind them.
SERVERS = (
    KnownServer(
        name="LiteLLM",
        header=("x-litellm-version", ""),
        version_header="x-litellm-version",
    ),
    KnownServer(name="Portkey", header=("x-portkey-trace-id", "")),
    KnownServer(name="Cloudflare AI Gateway", header=("cf-aig-log-id", "")),
    KnownServer(name="Kong AI Gateway", header=("x-kong-llm-model", "")),
    KnownServer(name="vLLM", backend="vllm_api", owned_by="vllm"),
    KnownServer(
        name="llama.cpp",
        backend="embedded",
        header=("server", "llama.cpp"),
        owned_by="llamacpp",
        route=("/props", "default_generation_settings"),
        version_route=("/props", "build_info"),
    ),
    KnownServer(
        name="Ollama",
        backend="ollama_api",
        owned_by="library",
        fingerprint="fp_ollama",
        route=("/api/version", "version"),
        version_route=("/api/version", "version"),
    ),
    KnownServer(
        name="SGLang",
        owned_by="sglang",
        route=("/get_model_info", "model_path"),
        version_route=("/get_server_info", "version"),
    ),
    KnownServer(name="LM Studio", owned_by="organization_owner", route=("/api/v0/models", "data")),
    KnownServer(name="TGI", route=("/info", "docker_label"), version_route=("/info", "version")),
    KnownServer(name="LMDeploy", owned_by="lmdeploy"),
    KnownServer(name="TensorRT-LLM", owned_by="tensorrt_llm"),
    KnownServer(name="TabbyAPI", owned_by="tabbyAPI"),
    KnownServer(name="llama-cpp-python", owned_by="me"),
    KnownServer(name="OpenAI", backend="openai", header=("openai-version", "")),
    KnownServer(name="mock", backend="mock", owned_by="llmengine"),
)


def recognised(engine: Engine, found: Fingerprint, reply: Reply) -> KnownServer | None:
    """The server program, if it is known; `reply` is its answer to a chat request.

    Routes are requested only if no other sign is found, and without a key.
    """
    for server in SERVERS:
        if _has_sign(server, found, reply):
            return server
    with _routes(engine) as target:
        return next(
            (s for s in SERVERS if s.route and s.route[1] in _get(target, s.route[0])), None
        )


def _version(engine: Engine, found: Fingerprint, server: KnownServer, reply: Reply) -> str | None:
    """The version of a recognised server.

    The header of a gateway comes first, because its other routes may be those of the server behind.
    """
    if version := reply.headers.get(server.version_header) or found.version:
        return version
    if server.version_route is None:
        return None
    path, key = server.version_route
    with _routes(engine) as target:
        version = _get(target, path).get(key)
    # Builds that do not know their number, such as those of xllamacpp, say "b0-unknown".
    return version if isinstance(version, str) and "unknown" not in version else None


@contextmanager
def _routes(engine: Engine) -> Iterator[Target]:
    """A target for routes outside ``/v1``; all requests of the block take a few seconds at most."""
    with Target(engine.root_url, "", limits=Limits(answer=_ROUTE_SECONDS)) as target:
        target.begin(seconds=_ROUTE_SECONDS)
        yield target


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


def _get(target: Target, path: str) -> dict[str, Any]:
    """The JSON object at a path; an empty object if there is none."""
    try:
        reply = target.get(path)
    except CheckEnded:
        return {}  # a missing answer proves nothing
    return _object(reply) if reply.ok else {}


def _object(reply: Reply) -> dict[str, Any]:
    try:
        return reply.object()
    except CheckEnded:
        return {}
