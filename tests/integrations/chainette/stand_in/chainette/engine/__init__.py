"""Engines."""

from chainette.engine.registry import (
    EngineConfig,
    get_engine_config,
    load_engines_from_yaml,
    register_engine,
)

__all__ = ["EngineConfig", "get_engine_config", "load_engines_from_yaml", "register_engine"]
