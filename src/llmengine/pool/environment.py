"""Variables of the process and of a ``.env`` file, and the addresses and keys in them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from llmengine.config.address import ENVIRONMENT, EnvSource, locate
from llmengine.config.backends import load_backend
from llmengine.types.errors import ConfigError
from llmengine.types.secrets import register

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from llmengine.config.address import Location, Names
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
    ``os.environ`` is not changed. Raises ConfigError, which names the file, if it cannot be read.
    """
    if env_file is None:
        return [ENVIRONMENT]
    path = Path(env_file)
    if not path.is_file() and str(env_file) != ENV_FILE:
        raise ConfigError(f"{path}: there is no such file; give env_file=None to read none")
    return [ENVIRONMENT, EnvSource(str(path), _read(path))]


def first_value(sources: Sources, variable: str) -> str | None:
    """The value of a variable in the first source that has it."""
    return next((value for s in sources if (value := s.get(variable))), None)


def flag(sources: Sources, variable: str) -> bool:
    """Whether a variable is true; a variable that is not set is false.

    Raises ConfigError, which names the variable, for a value that is neither true nor false.
    """
    value = first_value(sources, variable)
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


def with_variables(
    config: EngineConfig, sources: Sources, names: Names | None = None
) -> EngineConfig:
    """A copy of the configuration in which variables fill in the address and the key.

    The configuration's own values take precedence over every variable. ``names`` are the
    variables to read, by default those of the backend. Raises ConfigError if ``api_key_env`` names
    a variable that is not in the same source as the address.
    """
    location = locate(config, names or load_backend(config.backend).variables(), sources)
    if config.api_key is not None or config.api_key_env is not None:
        change = _own_key(config, location, sources)
    else:
        change = _key_beside_address(config, location, sources)
    return config.model_copy(update={"endpoint": location.endpoint} | change)


def _own_key(config: EngineConfig, location: Location, sources: Sources) -> dict[str, object]:
    variable = config.key_variable
    source = _source_of(variable, sources) if variable else ENVIRONMENT
    if source is None:
        return {}
    if location.source is not None and location.source is not source:
        raise ConfigError(
            f"engine {config.name!r}: its address {location.endpoint} is from "
            f"{location.source.name}, but its key is not; put both into one place, or give the "
            "engine an endpoint"
        )
    return _key_fields(source.get(variable)) if variable else {}


def _key_beside_address(
    config: EngineConfig, location: Location, sources: Sources
) -> dict[str, object]:
    source = _source_of(location.key_variable, sources)
    if location.key is None and source is not None and location.source is not None:
        log.warning(
            "engine %r: %s is in %s, but its address is in %s, so the key is not sent; "
            "put both into one place",
            config.name,
            location.key_variable,
            source.name,
            location.source.name,
        )
    return _key_fields(location.key)


def _source_of(variable: str | None, sources: Sources) -> EnvSource | None:
    return next((source for source in sources if source.get(variable)), None)


def _key_fields(key: str | None) -> dict[str, object]:
    if key is None:
        return {}
    register(key)
    return {"api_key": SecretStr(key), "api_key_env": None}
