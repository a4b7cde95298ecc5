"""Which address an engine is configured with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from llmengine.config.resolve import base_of, normal_endpoint, root_of
from llmengine.types.errors import ConfigError
from pytest_llmengine.targets.errors import TargetError

if TYPE_CHECKING:
    from llmengine.config.engine import EngineConfig
    from llmengine.engine.engine import Engine
    from pytest_llmengine.targets.settings import Settings


COMMAND_LINE = "the command line"

_HERE = frozenset({"localhost", "127.0.0.1", "::1"})
_SECONDS = 2.0  # a server on this machine answers at once, or is too busy to be tested


def configured_url(config: EngineConfig, engine: type[Engine], settings: Settings) -> str | None:
    """The address that was configured, or None."""
    found = located(config, engine, settings)
    return found[0] if found is not None else None


def located(
    config: EngineConfig, engine: type[Engine], settings: Settings
) -> tuple[str, str] | None:
    """The address that was configured and who says so, or None.

    What is said for one engine goes over what is said for all of a backend: the run's own URL,
    the engine's entry in the file, the backend's variable (OLLAMA_HOST), the project's default.
    """
    variable = next((v for v in engine.endpoint_env if os.environ.get(v)), "")
    said = (
        (settings.url, COMMAND_LINE),
        (config.endpoint, "the engines file"),
        (os.environ.get(variable), variable),
        (settings.fallback_url, "the ini file"),
    )
    for url, who in said:
        if url:
            return _checked(url, engine.default_port), who
    return None


def answers_by_default(engine: type[Engine]) -> bool:
    """Whether a server answers at the backend's default address, if that is on this machine.

    It is asked for its version, which neither needs a key nor loads a model.
    """
    if engine.default_endpoint is None:
        return False
    endpoint = normal_endpoint(engine.default_endpoint, default_port=engine.default_port)
    if urlsplit(endpoint).hostname not in _HERE:
        return False
    version = root_of(endpoint) + engine.version_path if engine.version_path else None
    try:
        with httpx.stream(
            "GET", version or f"{base_of(endpoint)}/models", timeout=_SECONDS, trust_env=False
        ) as reply:
            return reply.is_success
    except httpx.HTTPError:
        return False


def split_endpoint(endpoint: str) -> tuple[str, str]:
    """An endpoint as the part that a proxy stands for, and the path and query that it keeps.

    The path is kept because it decides what is spoken: ``/v1`` asks Ollama for OpenAI's dialect,
    and a path of another kind takes no ``/v1``.
    """
    parts = urlsplit(endpoint)
    query = f"?{parts.query}" if parts.query else ""
    before = parts.path.removesuffix("/v1")
    if before != parts.path:
        return f"{parts.scheme}://{parts.netloc}{before}", f"/v1{query}"
    return f"{parts.scheme}://{parts.netloc}", f"{parts.path}{query}"


def _checked(url: str, port: int | None) -> str:
    try:
        normal = normal_endpoint(url, default_port=port)
    except ConfigError as error:
        raise TargetError(str(error)) from error
    parts = urlsplit(normal)
    if "@" in parts.netloc:
        raise TargetError(
            f"the address of {parts.hostname} holds a name or a password; take it out and put the "
            "key into the environment"
        )
    return normal
