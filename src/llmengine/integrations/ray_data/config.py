"""Engines from descriptions without keys, which Ray may store and send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from llmengine.engine.engine import EngineConfig
from llmengine.engine.fallback import FallbackConfig
from llmengine.engine.files import load_engines, parse_engines
from llmengine.pool.pool import get_engine
from llmengine.types.errors import ConfigError, UnknownEngineError
from llmengine.types.secrets import is_secret_name

if TYPE_CHECKING:
    import os

    from llmengine.engine.engine import Engine


EngineSpec = EngineConfig | Mapping[str, object] | str


def engine_of(spec: EngineSpec, engines_file: str | os.PathLike[str] | None = None) -> Engine:
    """Make the engine for a configuration, a mapping of its fields, or a name.

    A name is looked up in the engines file or, without a file, among the engines that environment
    variables describe, such as "vllm". Raises ConfigError for a wrong description, and for one that
    holds a key.
    """
    if isinstance(spec, str):
        return get_engine(spec) if engines_file is None else _named(spec, engines_file)
    return config_of(spec).engine


def config_of(spec: EngineConfig | Mapping[str, object]) -> EngineConfig:
    """The configuration, or the one with these fields; raises ConfigError if it holds a key.

    Ray keeps the arguments of a plan in its store and sends them to its nodes in plain text.
    """
    config = spec if isinstance(spec, EngineConfig) else _from_fields(spec)
    _refuse_key(config)
    return config


def _refuse_key(config: EngineConfig) -> None:
    if isinstance(config, FallbackConfig):
        for engine in config.engines:
            _refuse_key(engine)
    literal = config.api_key is not None and config.key_variable is None
    headers = [name for name in config.headers if is_secret_name(name, "header")]
    if literal or headers:
        raise ConfigError(
            f"engine {config.name!r}: {headers[0] if headers else 'api_key'}: Ray would send the "
            "key in plain text; in api_key_env, name the variable that holds it on every node"
        )


def _named(name: str, engines_file: str | os.PathLike[str]) -> Engine:
    engines = load_engines(engines_file)
    if name not in engines:
        raise UnknownEngineError(
            f"{engines_file}: unknown engine {name!r}; its engines are {', '.join(engines)}"
        )
    return engines[name].engine


def _from_fields(fields: Mapping[str, object]) -> EngineConfig:
    (config,) = parse_engines([dict(fields)], "engine").values()
    return config
