"""A small dictionary of clients."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Self

from llmengine.config.engine import EngineConfig
from llmengine.config.files import load_engines
from llmengine.pool.named import NAMED, named_engine
from llmengine.pool.settled import settled
from llmengine.pool.variables import ENV_FILE, read_variables
from llmengine.types.errors import ConfigError, InvalidFieldError, UnknownEngineError

if TYPE_CHECKING:
    import os

    from llmengine.engine.engine import Engine
    from llmengine.pool.variables import EnvFile


class EnginePool:
    """Engines by name: made when first asked for, one a name, and closed together.

    Besides those that were registered it knows ``llamacpp``, ``nemotron``, ``ollama``, ``openai``
    and ``vllm``, which variables of the environment or of ``env_file`` describe. Safe to share
    between threads.
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
                "or what load_engines() returns"
            )
        for config in listed:
            self.register(config)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, env_file: EnvFile = ENV_FILE) -> Self:
        """The engines of an engines file; raises ConfigError as `load_engines` does."""
        return cls(load_engines(path), env_file=env_file)

    def register(self, config: EngineConfig, *, replace: bool = False) -> None:
        """Take an engine in under its name.

        Raises ConfigError if another configuration has that name, unless it is to be replaced.
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

        Raises UnknownEngineError, a ConfigError and a KeyError, that lists the known names.
        """
        if (config := self._configs.get(name)) is not None:
            return config
        if name in NAMED:
            return named_engine(name, read_variables(self._env_file))
        registered = ", ".join(sorted(self._configs)) or "none"
        raise UnknownEngineError(
            f"unknown engine {name!r}; registered: {registered}; "
            f"from the environment: {', '.join(NAMED)}"
        )

    def get(self, name: str) -> Engine:
        """The engine of that name, made the first time; raises as `config` does."""
        with self._lock:
            if name not in self._engines:
                self._engines[name] = settled(
                    self.config(name), read_variables(self._env_file)
                ).engine
            return self._engines[name]

    def names(self) -> list[str]:
        """The registered names, sorted."""
        return sorted(self._configs)

    def close(self) -> None:
        """Close every engine that was made; one that is asked for again is made anew."""
        with self._lock:
            engines, self._engines = self._engines, {}
        for engine in engines.values():
            engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
