"""Runs Chainette's own steps and chains on our engines.

`register_engine` is called in the same way as Chainette's function of that name and puts one of our
engines into Chainette's registry. `install` does the same for programs that call Chainette's own
function. ``chainette`` itself is imported when one of these functions is first called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.integrations.chainette.engines import load_entries, require_chainette
from llmengine.integrations.chainette.skipped import (
    SkippedItem,
    SkippedItemsWarning,
    collect_skipped,
)

if TYPE_CHECKING:
    import os

    from llmengine.engine.engine import EngineConfig
    from llmengine.integrations.chainette.registry import RegisteredEngine

__all__ = [
    "SkippedItem",
    "SkippedItemsWarning",
    "collect_skipped",
    "install",
    "load_engines_from_yaml",
    "register_engine",
]


def register_engine(name: str | EngineConfig, **fields: object) -> RegisteredEngine:
    """Register one of our engines with Chainette and return its entry in Chainette's registry.

    The arguments are those of ``chainette.register_engine``: a name, and ``model``, ``backend``
    ("vllm_api" by default), ``endpoint``, ``api_key`` and Chainette's other fields. The fields of
    our EngineConfig and the names of our backends are accepted too. An EngineConfig may replace the
    name and the fields. A warning names the fields that have no effect. Raises ConfigError for a
    wrong value.
    """
    require_chainette()
    from llmengine.integrations.chainette import registry  # noqa: PLC0415 - it imports chainette

    return registry.register_engine(name, **fields)


def load_engines_from_yaml(path: str | os.PathLike[str]) -> None:
    """Register the engines of a YAML file: a list, or a mapping whose ``engines`` is the list."""
    for name, fields in load_entries(path):
        register_engine(name, **fields)


def install(engine: EngineConfig | None = None) -> None:
    """Make Chainette's own ``register_engine`` and ``load_engines_from_yaml`` use our engines.

    Call it before you import the modules that import these functions from Chainette. Engines that
    were registered before the call stay Chainette's. If ``engine`` is given, it replaces every
    engine that is registered from now on, under any name: use it for a mock, or for one small model
    that answers for all engines.
    """
    require_chainette()
    from llmengine.integrations.chainette import registry  # noqa: PLC0415 - it imports chainette

    registry.install(register_engine, load_engines_from_yaml, engine)
