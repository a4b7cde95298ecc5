"""The pool of engines by name, with the engines that only environment variables describe.

`register_engine` and `get_engine` use the one pool of the process, for programs that need only one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from llmengine.config.address import Names
from llmengine.engine.engine import EngineConfig
from llmengine.engine.fallback import FallbackConfig
from llmengine.engine.files import load_engines
from llmengine.pool.environment import ENV_FILE, first_value, read_variables, with_variables
from llmengine.types.arguments import checked_call
from llmengine.types.errors import ConfigError, InvalidFieldError, UnknownEngineError

if TYPE_CHECKING:
    import os

    from llmengine.engine.engine import Engine
    from llmengine.pool.environment import EnvFile, Sources


NEMOTRON = "nvidia/nemotron-3-8b-instruct"
COLD_START = 300.0


def nemotron_koyeb(
    endpoint: str, model: str = NEMOTRON, *, cold_start: float = COLD_START, **fields: Any
) -> EngineConfig:
    """Nemotron, or another model, on a vLLM server that Koyeb stops while it is not used.

    While the server starts, its address answers 502, 503 or 504, or does not answer. The engine
    then waits until the server lists its models, for at most ``cold_start`` seconds. ``fields`` are
    further fields of EngineConfig.
    """
    given = {"model": model, "endpoint": endpoint, "cold_start": cold_start}
    return EngineConfig(**({"name": "nemotron", "backend": "vllm_api"} | fields | given))


@dataclass(frozen=True, slots=True)
class EnvironmentEngine:
    """An engine that variables describe: its backend, and the variable that holds its model.

    ``names`` are the variables of its address and key, if they differ from the backend's.
    """

    backend: str
    model: str
    names: Names | None = None
    default_model: str | None = None
    cold_start: float | None = None


# Repeated here, so that a configuration can be made without OpenAI's SDK installed.
_OPENAI = Names(
    (("OPENAI_BASE_URL", "OPENAI_API_KEY"), ("OPENAI_API_BASE", "OPENAI_API_KEY")),
    default="https://api.openai.com/v1",
    key="OPENAI_API_KEY",
)

ENVIRONMENT_ENGINES = {
    "llamacpp": EnvironmentEngine(
        "openai_compatible",
        "LLAMACPP_MODEL",
        Names((("LLAMACPP_API_BASE", None),), default="http://localhost:8080/v1"),
    ),
    "nemotron": EnvironmentEngine(
        "vllm_api",
        "NEMOTRON_MODEL",
        Names((("NEMOTRON_API_URL", "NEMOTRON_API_KEY"),)),
        default_model=NEMOTRON,
        cold_start=COLD_START,
    ),
    "ollama": EnvironmentEngine("ollama_api", "OLLAMA_MODEL"),
    "openai": EnvironmentEngine("openai", "OPENAI_MODEL", _OPENAI),
    "vllm": EnvironmentEngine("vllm_api", "VLLM_MODEL"),
}


def named_engine(name: str, sources: Sources) -> EngineConfig:
    """The engine of ENVIRONMENT_ENGINES with that name, made from variables alone.

    Raises ConfigError, which names the variable, if the model or the address is not set.
    """
    engine = ENVIRONMENT_ENGINES[name]
    model = first_value(sources, engine.model) or engine.default_model
    if model is None:
        raise ConfigError(_not_set(name, engine.model))
    config = EngineConfig(
        name=name, backend=engine.backend, model=model, cold_start=engine.cold_start
    )
    config = with_variables(config, sources, engine.names)
    if config.endpoint is None and engine.names is not None:
        raise ConfigError(_not_set(name, engine.names.pairs[0][0]))
    return config


def _not_set(name: str, variable: str) -> str:
    return f"engine {name!r}: {variable} is not set; set it in the environment or in .env"


class EnginePool:
    """Engines by name: each is made when it is first used, and all are closed together.

    Besides the registered engines, the pool knows ``llamacpp``, ``nemotron``, ``ollama``,
    ``openai`` and ``vllm``, which are described by variables of the environment or of
    ``env_file``. A pool may be shared between threads.
    """

    def __init__(
        self,
        configs: Iterable[EngineConfig] | Mapping[str, EngineConfig] = (),
        *,
        env_file: EnvFile = ENV_FILE,
    ) -> None:
        self._env_file = env_file
        self._lock = threading.Lock()
        self._configs: dict[str, EngineConfig] = {}
        self._engines: dict[str, Engine] = {}
        listed = configs.values() if isinstance(configs, Mapping) else configs
        if not isinstance(listed, Iterable):
            raise InvalidFieldError(
                f"EnginePool: configs is a {type(configs).__name__}; give a list of EngineConfig, "
                "or the result of load_engines()"
            )
        for config in listed:
            self.register(config)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, env_file: EnvFile = ENV_FILE) -> Self:
        """The engines of an engines file; raises ConfigError as `load_engines` does."""
        return cls(load_engines(path), env_file=env_file)

    def register(self, config: EngineConfig, *, replace: bool = False) -> None:
        """Register an engine under its name.

        Raises ConfigError if another configuration has that name, unless ``replace`` is true.
        """
        if not isinstance(config, EngineConfig):
            raise InvalidFieldError(
                f"an engine is registered by an EngineConfig, not by a {type(config).__name__}; "
                "write EngineConfig(name=..., backend=..., model=...)"
            )
        with self._lock:
            known = self._configs.get(config.name)
            if known is not None and known != config and not replace:
                raise ConfigError(
                    f"engine {config.name!r} is registered with another configuration; "
                    "choose another name, or register with replace=True"
                )
            self._configs[config.name] = config
            outdated = None if known == config else self._engines.pop(config.name, None)
        if outdated is not None:
            outdated.close()

    def config(self, name: str) -> EngineConfig:
        """The configuration of that name.

        Raises UnknownEngineError, which lists the known names; it is a ConfigError and a KeyError.
        """
        if (config := self._configs.get(name)) is not None:
            return config
        if name in ENVIRONMENT_ENGINES:
            return named_engine(name, read_variables(self._env_file))
        registered = ", ".join(sorted(self._configs)) or "none"
        raise UnknownEngineError(
            f"unknown engine {name!r}; registered: {registered}; "
            f"from the environment: {', '.join(ENVIRONMENT_ENGINES)}"
        )

    def get(self, name: str) -> Engine:
        """The engine of that name, made at the first call; raises as `config` does."""
        with self._lock:
            return self._get(name)

    def _get(self, name: str) -> Engine:
        if name not in self._engines:
            self._engines[name] = self._complete(self.config(name)).engine
        return self._engines[name]

    def _complete(self, config: EngineConfig) -> EngineConfig:
        """The configuration with what variables add to it.

        A fallback of registered engines is made of the pool's own engines.
        """
        if not isinstance(config, FallbackConfig):
            return with_variables(config, read_variables(self._env_file))
        engines = [
            self._get(one.name).config
            if self._configs.get(one.name) == one
            else self._complete(one)
            for one in config.engines
        ]
        return config.model_copy(update={"engines": tuple(engines)})

    def names(self) -> list[str]:
        """The registered names, sorted."""
        return sorted(self._configs)

    def close(self) -> None:
        """Close every engine that was made; `get` makes a new one after that."""
        with self._lock:
            engines, self._engines = self._engines, {}
        for engine in engines.values():
            engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


_pool = EnginePool()


def _advice(unknown: Mapping[str, object]) -> str:
    written = ", ".join(f"{name}=..." for name in unknown)
    return f"write register_engine(EngineConfig({written}))"


@checked_call("register_engine()", InvalidFieldError, _advice)
def register_engine(config: EngineConfig, *, replace: bool = False) -> None:
    """Register an engine in the pool of the process; see EnginePool.register."""
    _pool.register(config, replace=replace)


def get_engine(name: str) -> Engine:
    """The engine of that name in the pool of the process; see EnginePool.get."""
    return _pool.get(name)


def get_engine_config(name: str) -> EngineConfig:
    """The configuration of that name in the pool of the process; see EnginePool.config."""
    return _pool.config(name)
