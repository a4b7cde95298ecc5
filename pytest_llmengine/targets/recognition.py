"""Recognition of the server program at an address, by its headers, model list and own routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.outcomes import CheckEnded
from pytest_llmengine.contract.profile import shipped_profiles
from pytest_llmengine.contract.target import Target

if TYPE_CHECKING:
    from llmengine.engine.engine import Engine
    from llmengine.types.outputs import Fingerprint
    from pytest_llmengine.contract.reply import Reply

_SECONDS = 5.0  # the limit for a request to a route that only one server has


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
        if _shows(server, found, reply):
            return server.name
    with Target(engine.root_url, "", limits=Limits(answer=_SECONDS)) as target:
        return next((s.name for s in SERVERS if s.route and _has(target, *s.route)), None)


def advice(backend: str, server: str | None) -> str:
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


def _shows(server: KnownServer, found: Fingerprint, reply: Reply) -> bool:
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
