"""Language models for DSPy 2.4.9 to 3.x; ``dspy`` is imported when the first one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.integrations.dspy.lm import (
    Generation,
    installed,
    installed_version,
    native_lm,
    purge_dead_threads,
    to_lm,
)

if TYPE_CHECKING:
    from llmengine.integrations.dspy.dspy2_4 import DSPyLLMWrapper as DSPyLLMWrapper

__all__ = [
    "DSPyLLMWrapper",
    "Generation",
    "installed_version",
    "native_lm",
    "purge_dead_threads",
    "to_lm",
]


def __getattr__(name: str) -> object:
    if name != "DSPyLLMWrapper":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # DSPy 2.4 needs a class that can be subclassed; for later versions the name is `to_lm`.
    if installed() is not Generation.LEGACY:
        return to_lm
    from llmengine.integrations.dspy import dspy2_4  # noqa: PLC0415 - it imports dspy

    return dspy2_4.DSPyLLMWrapper
