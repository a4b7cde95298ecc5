"""The pool of the process, for programs that need just one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.pool.pool import EnginePool

if TYPE_CHECKING:
    from llmengine.config.engine_config import EngineConfig
    from llmengine.engine.engine import Engine

_pool = EnginePool()


def register_engine(config: EngineConfig, *, replace: bool = False) -> None:
    """Make an engine known to the whole process under its name; see EnginePool.register."""
    _pool.register(config, replace=replace)


def get_engine(name: str) -> Engine:
    """The process's one engine of that name; see EnginePool.get."""
    return _pool.get(name)


def get_engine_config(name: str) -> EngineConfig:
    """The configuration of that name; see EnginePool.config."""
    return _pool.config(name)
