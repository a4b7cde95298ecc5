"""The errors of cassette files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.types.errors import LLMEngineError

if TYPE_CHECKING:
    from pathlib import Path


class CassetteError(LLMEngineError):
    """A cassette cannot be used; the message names the file and what to do."""


class CassetteNotFoundError(CassetteError):
    """There is no recording at the path of a replay."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"no cassette at {path}; record it with the option --engine-mode=record "
            f"on the same pytest run, or with: llmengine record --upstream URL {path}"
        )
        self.path = path

    def __reduce__(self) -> tuple[type[CassetteNotFoundError], tuple[Path]]:
        return (type(self), (self.path,))


class CassetteExpiredError(CassetteError):
    """A cassette is older than ``max_age``, and ``expired`` is "fail"."""


class CassetteExpiredWarning(UserWarning):
    """A cassette is older than ``max_age``."""
