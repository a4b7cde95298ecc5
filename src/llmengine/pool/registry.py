"""The pool of the process, for programs that need just one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.pool.pool import EnginePool
from llmengine.types.arguments import checked_call
from llmengine.types.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.config.engine import EngineConfig
    from llmengine.engine.engine import Engine

_pool = EnginePool()


def _advice(unknown: Mapping[str, Any]) -> str:
    written = ", ".join(f"{name}=..." for name in unknown)
    return f"write register_engine(EngineConfig({written}))"


@checked_call("register_engine()", InvalidFieldError, _advice)
def register_engine(config: EngineConfig, *, replace: bool = False) -> None:
    """Make an engine known to the whole process under its name; see EnginePool.register."""
    _pool.register(config, replace=replace)


def get_engine(name: str) -> Engine:
    """The process's one engine of that name; see EnginePool.get."""
    return _pool.get(name)


def get_engine_config(name: str) -> EngineConfig:
    """The configuration of that name; see EnginePool.config."""
    return _pool.config(name)
