"""A reader for one ``.env`` file, in the format of pydantic-settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dotenv import dotenv_values
from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

if TYPE_CHECKING:
    from collections.abc import Mapping


def read_env_file(path: Path) -> dict[str, str]:
    """The variables in the file that are not empty, without those of the environment."""

    class File(_EnvFileSettings):
        model_config = SettingsConfigDict(env_file=path)

    return {name: value for name, value in (File().model_extra or {}).items() if value}


class _EnvFileSettings(BaseSettings):
    model_config = SettingsConfigDict(extra="allow", case_sensitive=True)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *_: object, **__: object
    ) -> tuple[DotEnvSettingsSource]:
        return (_LiteralSource(settings_cls),)


class _LiteralSource(DotEnvSettingsSource):
    """Reads ``${NAME}`` as plain text.

    python-dotenv would replace it by a variable of the environment. Then a file could send the
    value of any variable, such as a key, to an address that the file contains.
    """

    def _load_env_vars(self) -> Mapping[str, str | None]:
        assert isinstance(self.env_file, Path)  # the one path of `read_env_file`
        return dotenv_values(self.env_file, interpolate=False, encoding="utf-8")
