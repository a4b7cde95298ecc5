"""From an engine's name to its configuration."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.util import find_spec
from typing import TYPE_CHECKING

from llmengine.config.backends import backends, load_backend
from llmengine.config.engine import EngineConfig
from llmengine.config.files import load_engines
from llmengine.types.errors import ConfigError
from pytest_llmengine.short_names import BACKEND_OF_MARKER
from pytest_llmengine.targets.errors import TargetError

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine.engine.engine import Engine

_STANDS_ON = {
    "openai": "openai",
    "vllm_local": "vllm",
}  # backends of ours that an extra brings: the package to import
_SERVER_STANDS_ON = {"embedded": "xllamacpp"}  # the same, for the servers that engines start


def config_named(name: str, file: Path | None) -> EngineConfig:
    """The engine of that name in the file, else the first with that backend, else the backend bare.

    A backend may be named as its marker is: ``ollama``, ``vllm``. A bare backend has an empty
    model: it is found out where the server is. Raises TargetError that lists the names if there is
    no such engine, or says what is wrong with the file.
    """
    engines = _engines(file)
    if name in engines:
        return engines[name]
    backend = BACKEND_OF_MARKER.get(name, name)
    for config in engines.values():
        if config.backend == backend:
            return config
    if backend in backends():
        return EngineConfig.model_validate({"name": backend, "backend": backend, "model": ""})
    known = dict.fromkeys([*engines, *backends(), *BACKEND_OF_MARKER])
    near = get_close_matches(name, known, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    in_file = f"; {file} has {', '.join(engines)}" if file else "; no engines file is given"
    raise TargetError(
        f"unknown engine {name!r}: {meant}backends are {', '.join(backends())}{in_file}"
    )


def is_here(backend: str) -> bool:
    """Whether this installation has such a backend, with the package that it stands on."""
    package = _STANDS_ON.get(backend)
    return backend in backends() and (package is None or find_spec(package) is not None)


def can_start(backend: str) -> bool:
    """Whether the package is installed that the server of a backend's engines is made of."""
    package = _SERVER_STANDS_ON.get(backend)
    return package is None or find_spec(package) is not None


def has_server(backend: str) -> bool:
    """Whether a backend's engines talk to a server; others run in this process."""
    engine: type[Engine] = load_backend(backend)
    return not engine.in_process


def _engines(file: Path | None) -> dict[str, EngineConfig]:
    if file is None:
        return {}
    try:
        return load_engines(file)
    except ConfigError as error:
        raise TargetError(str(error)) from error
