"""What a run was told about engines, whoever was told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.registry import Tier

if TYPE_CHECKING:
    from pytest_llmengine.containers.ownership import Owner


class Mode(StrEnum):
    """Where answers come from."""

    LIVE = "live"
    RECORD = "record"
    REPLAY = "replay"
    DOCKER = "docker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Choices of a run; what is None is found out from the environment, the file and the disk.

    ``engines`` are the names that the run aims at; ``url`` and ``model`` belong to them alone.
    ``fallback_url`` and ``fallback_model`` are a project's own defaults: they yield to the
    engine's entry in the file and to its environment, such as OLLAMA_HOST. ``config`` is the
    engines file. ``cassettes`` holds one folder an engine; with ``rewrite``, recording replaces
    what is there. No key is held here: keys come from the environment.
    ``image``, ``gpus`` and ``startup_timeout`` (seconds) are for engines in containers; ``owner``
    is the run that containers belong to, None for a run of one process and one session.
    ``limits`` bound the checks of the contract on each engine.
    """

    engines: tuple[str, ...] = ()
    url: str | None = None
    fallback_url: str | None = None
    model: str | None = None
    fallback_model: str | None = None
    config: Path | None = None
    mode: Mode | None = None
    cassettes: Path = Path("cassettes")
    rewrite: bool = False
    tier: Tier = Tier.EXTENDED
    image: str | None = None
    gpus: str | None = None
    startup_timeout: float | None = None
    limits: Limits = field(default_factory=Limits)
    owner: Owner | None = None

    def for_engine(self, name: str) -> Self:
        """The same without URL, model and image where they were meant for other engines."""
        if not self.engines or name in self.engines:
            return self
        return replace(
            self, url=None, fallback_url=None, model=None, fallback_model=None, image=None
        )
