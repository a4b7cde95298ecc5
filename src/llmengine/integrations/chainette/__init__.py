"""Chainette's own steps and chains on our engines; ``chainette`` itself is imported at first use.

`register_engine` is called as Chainette's function of that name and puts an engine of ours into
Chainette's registry. `install` does so for programs that keep calling Chainette's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.integrations.chainette.engines import load_entries, require_chainette
from llmengine.integrations.chainette.skipped import (
    SkippedItem,
    SkippedItemsWarning,
    collect_skipped,
)

if TYPE_CHECKING:
    import os

    from llmengine.config.engine import EngineConfig

__all__ = [
    "SkippedItem",
    "SkippedItemsWarning",
    "collect_skipped",
    "install",
    "load_engines_from_yaml",
    "register_engine",
]


def register_engine(name: str | EngineConfig, **fields: Any) -> Any:
    """Register an engine of ours with Chainette, and return its entry in Chainette's registry.

    The call is that of ``chainette.register_engine``: a name, and ``model``, ``backend`` (left out,
    "vllm_api"), ``endpoint``, ``api_key`` and Chainette's other fields. The fields of our
    EngineConfig and the names of our backends are taken as well, and so is an EngineConfig in place
    of a name. Fields that change nothing are named in a warning. Raises ConfigError for a wrong
    value.
    """
    require_chainette()
    from llmengine.integrations.chainette import registry  # noqa: PLC0415 - it imports chainette

    return registry.register_engine(name, **fields)


def load_engines_from_yaml(path: str | os.PathLike[str]) -> None:
    """Register the engines of a YAML file: a list, or a mapping with the list as ``engines``."""
    for entry in load_entries(path):
        register_engine(**entry)


def install(engine: EngineConfig | None = None) -> None:
    """Make Chainette's own ``register_engine`` and ``load_engines_from_yaml`` register ours.

    Call it before the modules that import these functions from Chainette are imported. Engines
    that were registered before stay Chainette's. ``engine`` answers for every engine that is
    registered from now on, whatever that is called: a mock, or one small model for all.
    """
    require_chainette()
    from llmengine.integrations.chainette import registry  # noqa: PLC0415 - it imports chainette

    registry.install(register_engine, load_engines_from_yaml, engine)
