"""Reads one ``.env`` file in the way of pydantic-settings, without other sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dotenv import dotenv_values
from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def read_env_file(path: Path) -> dict[str, str]:
    """The variables in the file, without those of the environment; none if there is no file."""

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
    """Reads ``${NAME}`` as plain text.

    python-dotenv would replace it by a variable of the environment. Then a file could send any
    key whose variable it names to an address of the file's choice.
    """

    def _load_env_vars(self) -> Mapping[str, str | None]:
        path: Any = self.env_file
        return dotenv_values(path, interpolate=False, encoding="utf-8")
