"""A stand-in for Chainette, written for these tests: its call shapes, and the traps in them.

Chainette is on no package index. What is here does what its steps, chains and registry do with an
engine, in a fraction of the code. ``CHAINETTE_SOURCE=... nox -s chainette`` runs the same tests on
Chainette itself.
"""

from chainette.core.apply import ApplyNode
from chainette.core.chain import Chain
from chainette.core.step import SamplingParams, Step
from chainette.engine.registry import (
    EngineConfig,
    get_engine_config,
    load_engines_from_yaml,
    register_engine,
)

__all__ = [
    "ApplyNode",
    "Chain",
    "EngineConfig",
    "SamplingParams",
    "Step",
    "get_engine_config",
    "load_engines_from_yaml",
    "register_engine",
]
