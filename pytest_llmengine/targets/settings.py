"""What stops a run before any rule can be looked at.

What the harness knows of a backend beyond what its engine class says.

What a run was told about engines, whoever was told.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Self

from llmengine.types.errors import LLMEngineError
from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.registry import Tier

if TYPE_CHECKING:
    from pytest_llmengine.containers.ownership import Owner


class TargetError(LLMEngineError):
    """There is nothing to talk to; the message says what is wrong and what to do, in one line."""


class NotInstalled(TargetError):  # noqa: N818 - reads as what happened
    """The server that the engine starts is not installed; the message has the command."""


class AlreadyRecorded(TargetError):  # noqa: N818 - reads as what happened
    """There is a recording, and it was not said that it is to be replaced."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Facts about one backend.

    ``server`` is what people call the server. ``own_server`` says that the engine starts its
    server itself, ``instant`` that this costs nothing, so that it is never replayed unasked.
    ``model`` is what such a server serves. ``model_variable`` is an environment variable that
    users set anyway, and ``get_model`` the command that fetches one. ``one_address`` says that
    there is one server for all, so that a key is all that it takes to ask it.
    """

    name: str
    server: str
    own_server: bool = False
    instant: bool = False
    model: str = ""
    model_variable: str = ""
    get_model: str = ""
    one_address: bool = False


_BACKENDS = (
    Backend("mock", "mock", own_server=True, instant=True, model="mock"),
    Backend("embedded", "llama.cpp", own_server=True, model="smollm2-135m"),
    Backend("ollama_api", "Ollama", model_variable="OLLAMA_MODEL", get_model="ollama pull"),
    Backend("vllm_api", "vLLM", model_variable="VLLM_MODEL"),
    Backend("vllm_local", "vLLM", model_variable="LLMENGINE_VLLM_MODEL"),
    Backend("openai", "OpenAI", model_variable="OPENAI_MODEL", one_address=True),
)

_BY_NAME = {b.name: b for b in _BACKENDS}


def facts(backend: str) -> Backend:
    """What is known of a backend; any other is known by its name alone."""
    return _BY_NAME.get(backend, Backend(backend, backend))


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
