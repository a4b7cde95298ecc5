"""The engines that variables alone describe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmengine.config.engine import EngineConfig
from llmengine.config.resolve import Names
from llmengine.pool.presets import COLD_START, NEMOTRON
from llmengine.pool.settled import settled
from llmengine.pool.variables import first
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from llmengine.pool.variables import Sources


@dataclass(frozen=True, slots=True)
class Named:
    """One engine of the environment: its backend and the variable that holds its model.

    ``names`` are the variables of its address and key, where those of the backend do not fit.
    """

    backend: str
    model: str
    names: Names | None = None
    default_model: str | None = None
    cold_start: float | None = None


# Said here too, so that a configuration can be had where OpenAI's SDK is not installed.
_OPENAI = Names(
    (("OPENAI_BASE_URL", "OPENAI_API_KEY"), ("OPENAI_API_BASE", "OPENAI_API_KEY")),
    default="https://api.openai.com/v1",
    key="OPENAI_API_KEY",
)

NAMED = {
    "llamacpp": Named(
        "openai_compatible",
        "LLAMACPP_MODEL",
        Names((("LLAMACPP_API_BASE", None),), default="http://localhost:8080/v1"),
    ),
    "nemotron": Named(
        "vllm_api",
        "NEMOTRON_MODEL",
        Names((("NEMOTRON_API_URL", "NEMOTRON_API_KEY"),)),
        default_model=NEMOTRON,
        cold_start=COLD_START,
    ),
    "ollama": Named("ollama_api", "OLLAMA_MODEL"),
    "openai": Named("openai", "OPENAI_MODEL", _OPENAI),
    "vllm": Named("vllm_api", "VLLM_MODEL"),
}


def named_engine(name: str, sources: Sources) -> EngineConfig:
    """The engine of that name, one of NAMED, made from variables alone.

    Raises ConfigError that names the variable if the model or the address is not set.
    """
    named = NAMED[name]
    model = first(sources, named.model) or named.default_model
    if model is None:
        raise ConfigError(_not_set(name, named.model))
    config = EngineConfig(
        name=name, backend=named.backend, model=model, cold_start=named.cold_start
    )
    found = settled(config, sources, named.names)
    if found.endpoint is None and named.names is not None:
        raise ConfigError(_not_set(name, named.names.pairs[0][0]))
    return found


def _not_set(name: str, variable: str) -> str:
    return f"engine {name!r}: {variable} is not set; set it in the environment or in .env"
