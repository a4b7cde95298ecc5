"""A ``.env`` file as pydantic-settings reads it, but by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dotenv import dotenv_values
from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def read_env_file(path: Path) -> dict[str, str]:
    """What the file says, and nothing of the environment; a file that is not there says nothing."""

    class File(_EnvFile):
        model_config = SettingsConfigDict(env_file=path)

    return {name: value for name, value in (File().model_extra or {}).items() if value}


class _EnvFile(BaseSettings):
    model_config = SettingsConfigDict(extra="allow", case_sensitive=True)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *_: Any, **__: Any
    ) -> tuple[DotEnvSettingsSource]:
        return (_Uninterpolated(settings_cls),)


class _Uninterpolated(DotEnvSettingsSource):
    """Takes ``${NAME}`` as text.

    In its place python-dotenv would put a variable of the environment, so that a file could send
    any key that it knows the name of to an address of its own.
    """

    def _load_env_vars(self) -> Mapping[str, str | None]:
        path: Any = self.env_file
        return dotenv_values(path, interpolate=False, encoding="utf-8")
