"""The variables that engines are found by: those of the process, and those of a ``.env`` file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmengine.config.resolve import ENVIRONMENT, EnvSource
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    Sources = Sequence[EnvSource]
    EnvFile = str | os.PathLike[str] | None

ENV_FILE = ".env"
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})


def read_variables(env_file: EnvFile = ENV_FILE) -> list[EnvSource]:
    """The process's variables, and those of the file, which they go over.

    ``.env`` in the current folder may be missing, another file may not. ``os.environ`` stays as
    it is. Raises ConfigError that names the file if it cannot be read.
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
    """Whether a variable is switched on; one that is not set is off.

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
