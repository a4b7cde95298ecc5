"""Translates Chainette's descriptions of engines to our configurations."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from llmengine.config.address import locate
from llmengine.config.backends import load_backend
from llmengine.engine.engine import EngineConfig
from llmengine.engine.files import parse_engines, read_yaml
from llmengine.pool.environment import read_variables, with_variables
from llmengine.pool.pool import ENVIRONMENT_ENGINES
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from llmengine.config.address import Names

DEFAULT_BACKEND = "vllm_api"  # Chainette's default

# Chainette's backends that we have under another name. Chainette pins a version of the openai
# package that our "openai" backend cannot use; OpenAI's server does not need that backend.
_BACKENDS = {"openai": "openai_compatible", "ollama": "ollama_api"}

# Chainette's fields with the arguments for `vllm serve`.
SERVER_FIELDS = frozenset(
    {
        "dtype",
        "extra_env",
        "extra_serve_flags",
        "gpu_ids",
        "gpu_memory_utilization",
        "lazy",
        "max_model_len",
        "port",
        "reasoning_parser",
        "startup_timeout",
        "tensor_parallel_size",
    }
)
_ALIASES = {"base_url", "api_base", "host", "num_retries"}
_OURS = frozenset({*EngineConfig.model_fields, *_ALIASES})


def require_chainette() -> None:
    """Raise ConfigError that says how to install Chainette if it is not installed."""
    if not _is_installed("chainette"):
        msg = (
            "the package chainette is not installed; no package index has it, so install it from "
            "a checkout of its repository: pip install ./chainette (see docs/migrating.md)"
        )
        raise ConfigError(msg)


@dataclass(frozen=True, slots=True)
class Registration:
    """One registered engine.

    ``backend`` is the backend's name for Chainette. ``names`` are the environment variables of the
    address and the key; without them the configuration is used as it is. ``starts_server`` says
    whether Chainette starts a vLLM server, whose address it then knows. ``server`` holds the fields
    for starting that server.
    """

    name: str
    config: EngineConfig
    backend: str
    names: Names | None = None
    starts_server: bool = False
    server: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, config: EngineConfig) -> Registration:
        """The registration of an engine with a configuration of ours."""
        return cls(name, config, _chainette_backend(config.backend))

    def resolved(self, endpoint: str | None) -> EngineConfig:
        """The configuration with the address and the key that the variables hold now."""
        if self.starts_server:
            return self.config.model_copy(update={"endpoint": endpoint})
        if self.names is None:
            return self.config
        return with_variables(self.config, read_variables(), self.names)

    @property
    def endpoint(self) -> str | None:
        """The address for Chainette, which starts a vLLM server if there is none."""
        if self.starts_server:
            return None
        return locate(self.config, self.names or _names(self.config), read_variables()).endpoint


def registration(name: str, fields: Mapping[str, object]) -> Registration:
    """Read the arguments of ``register_engine``; warn of every field that has no effect.

    Raises ConfigError that names the engine and the field.
    """
    given = {key: value for key, value in fields.items() if value is not None}
    backend = str(given.pop("backend", DEFAULT_BACKEND))
    if given.pop("enable_reasoning", False):
        given.setdefault("reasoning", True)
    ours = {key: value for key, value in given.items() if key in _OURS}
    entry = {"name": name, "backend": _BACKENDS.get(backend, backend), **ours}
    (config,) = parse_engines([entry], "register_engine").values()
    names = ENVIRONMENT_ENGINES["openai"].names if backend == "openai" else _names(config)
    starts = _is_started(config)
    server = {key: given[key] for key in sorted(SERVER_FIELDS & set(given))}
    unknown = [key for key in given if key not in _OURS and key not in SERVER_FIELDS]
    _warn(name, unknown, [] if starts else list(server), backend)
    return Registration(
        name, config, _chainette_backend(backend), names, starts, server if starts else {}
    )


def load_entries(path: str | os.PathLike[str]) -> list[tuple[str, dict[str, object]]]:
    """The names and fields of the engines in Chainette's YAML.

    The file holds a list, or a mapping whose ``engines`` is the list.

    Raises ConfigError that names the file and the engine.
    """
    data = read_yaml(Path(path), "an engines file")
    entries = data.get("engines") if isinstance(data, dict) else data
    if not isinstance(entries, list):
        msg = f"{path}: an engines file is a list of engines, or a mapping with one as 'engines'"
        raise ConfigError(msg)
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            msg = f"{path}: engine {number}: is not a mapping with a name"
            raise ConfigError(msg)
    return [(entry.pop("name"), entry) for entry in entries]


def _chainette_backend(backend: str) -> str:
    """The backend's name for Chainette: a name for which it does not change the messages.

    Chainette downloads the model's tokenizer for a backend that it does not know.
    """
    return backend if backend in {"vllm_api", "ollama_api"} else "openai"


def _is_started(config: EngineConfig) -> bool:
    """Whether Chainette starts the server: vLLM is installed here and no address is known."""
    if config.backend != DEFAULT_BACKEND or not _is_installed("vllm"):
        return False
    return not config.endpoint and locate(config, _names(config), read_variables()).source is None


def _is_installed(package: str) -> bool:
    # find_spec raises an error for a module without a spec, such as one that a test has made.
    return sys.modules.get(package) is not None or find_spec(package) is not None


def _names(config: EngineConfig) -> Names:
    names: Names = load_backend(config.backend).variables()
    return names


def _warn(name: str, unknown: Iterable[str], idle: Iterable[str], backend: str) -> None:
    parts = []
    if unknown:
        parts.append(f"{', '.join(unknown)}: unknown to Chainette and to llmengine")
    if idle:
        parts.append(
            f"{', '.join(idle)}: for a vLLM server that Chainette starts, but it starts no server "
            f"for this engine of backend {backend!r}"
        )
    if parts:
        warnings.warn(
            f"engine {name!r}: these fields have no effect: {'; '.join(parts)}", stacklevel=5
        )
