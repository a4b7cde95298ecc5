"""The settings of a run, what the harness knows about each backend, and the errors of targets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Self

from llmengine.types.errors import LLMEngineError
from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.registry import Tier
from pytest_llmengine.recording import RecordingConfig
from pytest_llmengine.recording.comparison import AnswerTier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmengine.containers.ownership import Owner
    from pytest_llmengine.recording.config import RecordMode


class Mode(StrEnum):
    """Where answers come from."""

    LIVE = "live"
    RECORD = "record"
    REPLAY = "replay"
    DOCKER = "docker"
    VERIFY = "verify"

    @property
    def plays(self) -> bool:
        """Whether clients get recorded answers."""
        return self in {Mode.REPLAY, Mode.VERIFY}


# What the record modes of vcrpy mean for a run.
_OF_VCRPY: dict[str, tuple[Mode, RecordMode | None]] = {
    "none": (Mode.REPLAY, None),
    "once": (Mode.RECORD, "once"),
    "new_episodes": (Mode.RECORD, "new_episodes"),
    "all": (Mode.RECORD, "all"),
}


def run_mode(name: str | None, *, rewrite: bool) -> tuple[Mode | None, RecordMode | None]:
    """The mode of a run by its name, which may be one of vcrpy's, and what is recorded in it.

    Raises TargetError if `rewrite` is asked for too, and the mode keeps the recordings.
    """
    if name in {"once", "new_episodes"} and rewrite:
        raise TargetError(
            f"the mode {name} keeps existing recordings, and --rewrite (or LLMENGINE_REWRITE) "
            "replaces them; leave one of the two out"
        )
    if name in _OF_VCRPY:
        return _OF_VCRPY[name]
    return (Mode(name) if name else None), ("all" if rewrite else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The user's choices for a run; a None is decided by the environment, the file and the disk.

    ``engines`` are the names of the engines under test; ``url``, ``model``, ``server_name`` and
    ``headers`` apply only to them. ``server_name`` is what reports call the server, and the name of
    its folder of cassettes. ``headers`` are sent with every request, in addition to those of the
    engines file.
    ``by_address`` says that the user gave only an address, and did not name the engine.
    ``fallback_url`` and ``fallback_model`` are a project's own defaults: the engine's entry in the
    file and its environment variables, such as OLLAMA_HOST, come before them. ``config`` is the
    engines file. ``cassettes`` holds one folder per engine. ``record_mode`` says what happens to a
    cassette that exists when recording: with None it is left as it is, and its test is not run.
    Keys are not held here; they come from the environment, and ``api_key_env``
    is the variable to read instead of the engine's own.
    ``image``, ``gpus`` and ``startup_timeout`` (seconds) are for engines in containers; ``owner``
    is the run that containers belong to, None for a run of one process and one session.
    ``limits`` bound the checks of the contract on each engine. ``recording`` applies to all
    cassettes. With the mode verify, a test fails if answers agree only in the tier ``fail_on``, or
    in a worse one.
    """

    engines: tuple[str, ...] = ()
    url: str | None = None
    fallback_url: str | None = None
    model: str | None = None
    fallback_model: str | None = None
    by_address: bool = False
    server_name: str | None = None
    api_key_env: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    config: Path | None = None
    mode: Mode | None = None
    cassettes: Path = Path("cassettes")
    record_mode: RecordMode | None = None
    tier: Tier = Tier.EXTENDED
    image: str | None = None
    gpus: str | None = None
    startup_timeout: float | None = None
    limits: Limits = field(default_factory=Limits)
    owner: Owner | None = None
    recording: RecordingConfig = field(default_factory=RecordingConfig)
    fail_on: AnswerTier = AnswerTier.DIFFERENT

    def for_engine(self, name: str) -> Self:
        """The same settings, without those of one server if `name` is not among `engines`."""
        if not self.engines or name in self.engines:
            return self
        return replace(
            self,
            url=None,
            fallback_url=None,
            model=None,
            fallback_model=None,
            by_address=False,
            server_name=None,
            api_key_env=None,
            headers={},
            image=None,
        )


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Facts about the server of one backend that the backend's class does not hold.

    ``server`` is the usual name of the server. ``own_server`` is true if the engine starts its
    server itself; ``instant`` is true if that costs nothing, so the server is replayed only on
    request. ``model`` is the model of such a server. ``model_variable`` is the environment
    variable for the model, and ``get_model`` the command that downloads a model. ``one_address``
    is true if everyone uses the same server, so that only a key is needed.
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
    ServerFacts("mock", "mock", own_server=True, instant=True, model="mock"),
    ServerFacts("embedded", "llama.cpp", own_server=True, model="smollm2-135m"),
    ServerFacts("ollama_api", "Ollama", model_variable="OLLAMA_MODEL", get_model="ollama pull"),
    ServerFacts("vllm_api", "vLLM", model_variable="VLLM_MODEL"),
    ServerFacts("vllm_local", "vLLM", model_variable="LLMENGINE_VLLM_MODEL"),
    ServerFacts("openai", "OpenAI", model_variable="OPENAI_MODEL", one_address=True),
)

_BY_NAME = {b.name: b for b in _BACKENDS}


def facts(backend: str) -> ServerFacts:
    """The facts about a backend; an unknown backend has only its name."""
    return _BY_NAME.get(backend, ServerFacts(backend, backend))


class TargetError(LLMEngineError):
    """The engine cannot be opened; the message says what is wrong and what to do."""


class EngineMissing(TargetError):  # noqa: N818 - reads as what happened
    """The engine is not installed, or there is neither a server that answers nor a recording."""


class NotInstalled(EngineMissing):
    """The server that the engine starts is not installed; the message has the install command."""


class AlreadyRecorded(TargetError):  # noqa: N818 - reads as what happened
    """There is already a recording, and the user did not ask to replace it."""
