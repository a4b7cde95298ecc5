"""The environment of the pool: variables of the process and of a ``.env`` file.

They add an address and a key to a configuration that does not have them.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from llmengine.config.backends import load_backend
from llmengine.config.resolve import ENVIRONMENT, EnvSource, locate
from llmengine.types.errors import ConfigError
from llmengine.types.secrets import register

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from llmengine.config.resolve import Location, Names
    from llmengine.engine.engine import EngineConfig

    Sources = Sequence[EnvSource]
    EnvFile = str | os.PathLike[str] | None


log = logging.getLogger("llmengine")
ENV_FILE = ".env"
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})


def read_variables(env_file: EnvFile = ENV_FILE) -> list[EnvSource]:
    """The variables of the process, which take precedence, and those of the file.

    ``.env`` in the current folder may be missing; a file with another name must exist.
    ``os.environ`` is not changed. Raises ConfigError that names the file if it cannot be read.
    """
    if env_file is None:
        return [ENVIRONMENT]
    path = Path(env_file)
    if not path.is_file() and str(env_file) != ENV_FILE:
        raise ConfigError(f"{path}: there is no such file; give env_file=None to read none")
    return [ENVIRONMENT, EnvSource(str(path), _read(path))]


def first(sources: Sources, variable: str) -> str | None:
    """The value of a variable in the first source that has it."""
    return next((value for s in sources if (value := s.get(variable))), None)


def flag(sources: Sources, variable: str) -> bool:
    """Whether a variable is switched on; a variable that is not set is off.

    Raises ConfigError that names the variable for a value that is neither yes nor no.
    """
    value = first(sources, variable)
    if value is None or value.lower() in _FALSE:
        return False
    if value.lower() in _TRUE:
        return True
    raise ConfigError(f"{variable} is {value!r}; write true or false")


def _read(path: Path) -> dict[str, str]:
    from llmengine.pool.env_file import read_env_file  # noqa: PLC0415 - pydantic-settings is slow

    try:
        return read_env_file(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from error


def settled(config: EngineConfig, sources: Sources, names: Names | None = None) -> EngineConfig:
    """A copy of the configuration with the address and the key from variables filled in.

    The configuration's own values take precedence over every variable. ``names`` are the
    variables to read, by default those of the backend. Raises ConfigError if the variable of a
    named key and the address are not in the same source.
    """
    place = locate(config, names or load_backend(config.backend).variables(), sources)
    if config.api_key is not None or config.api_key_env is not None:
        change = _own_key(config, place, sources)
    else:
        change = _key_beside(config, place, sources)
    return config.model_copy(update={"endpoint": place.endpoint} | change)


def _own_key(config: EngineConfig, place: Location, sources: Sources) -> dict[str, Any]:
    variable = config.key_variable
    holder = _holder(variable, sources) if variable else ENVIRONMENT
    if holder is None:
        return {}
    if place.source is not None and place.source is not holder:
        raise ConfigError(
            f"engine {config.name!r}: its key is not from {place.source.name}, but its address "
            f"{place.endpoint} is; put both into one place, or give the engine an endpoint"
        )
    return _key(holder.get(variable)) if variable else {}


def _key_beside(config: EngineConfig, place: Location, sources: Sources) -> dict[str, Any]:
    holder = _holder(place.key_variable, sources)
    if place.key is None and holder is not None and place.source is not None:
        log.warning(
            "engine %r: %s is in %s, but its address in %s, so that the key is not sent; "
            "put both into one place",
            config.name,
            place.key_variable,
            holder.name,
            place.source.name,
        )
    return _key(place.key)


def _holder(variable: str | None, sources: Sources) -> EnvSource | None:
    return next((source for source in sources if source.get(variable)), None)


def _key(key: str | None) -> dict[str, Any]:
    if key is None:
        return {}
    register(key)
    return {"api_key": SecretStr(key), "api_key_env": None}
