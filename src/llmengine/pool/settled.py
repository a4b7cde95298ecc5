"""A configuration with what variables add to it: the address and the key."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from llmengine.config.backends import load_backend
from llmengine.config.resolve import ENVIRONMENT, locate
from llmengine.types.errors import ConfigError
from llmengine.types.secrets import register

if TYPE_CHECKING:
    from llmengine.config.engine import EngineConfig
    from llmengine.config.resolve import EnvSource, Location, Names
    from llmengine.pool.variables import Sources

log = logging.getLogger("llmengine")


def settled(config: EngineConfig, sources: Sources, names: Names | None = None) -> EngineConfig:
    """A copy of the configuration that needs no variables any more.

    What it says itself goes over every variable. ``names`` are the variables to look at, those of
    the backend if left out. Raises ConfigError if a named key and the address do not stand in the
    same source.
    """
    place = locate(config, names or load_backend(config.backend).variables(), sources)
    if config.api_key is not None or config.api_key_env is not None:
        change = _own_key(config, place, sources)
    else:
        change = _key_beside(config, place, sources)
    return config.model_copy(update={"endpoint": place.endpoint} | change)


def _own_key(config: EngineConfig, place: Location, sources: Sources) -> dict[str, Any]:
    variable = config.key_variable
    holder = _holder(variable, sources) if variable else ENVIRONMENT
    if holder is None:
        return {}
    if place.source is not None and place.source is not holder:
        raise ConfigError(
            f"engine {config.name!r}: its key is not from {place.source.name}, but its address "
            f"{place.endpoint} is; put both into one place, or give the engine an endpoint"
        )
    return _key(holder.get(variable)) if variable else {}


def _key_beside(config: EngineConfig, place: Location, sources: Sources) -> dict[str, Any]:
    holder = _holder(place.key_variable, sources)
    if place.key is None and holder is not None and place.source is not None:
        log.warning(
            "engine %r: %s is in %s, but its address in %s, so that the key is not sent; "
            "put both into one place",
            config.name,
            place.key_variable,
            holder.name,
            place.source.name,
        )
    return _key(place.key)


def _holder(variable: str | None, sources: Sources) -> EnvSource | None:
    return next((source for source in sources if source.get(variable)), None)


def _key(key: str | None) -> dict[str, Any]:
    if key is None:
        return {}
    register(key)
    return {"api_key": SecretStr(key), "api_key_env": None}
