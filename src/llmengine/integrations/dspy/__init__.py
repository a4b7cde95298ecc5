"""DSPy 2.4.9 to 3.x over an engine; `dspy` itself is imported when the first LM is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.integrations.dspy.factory import to_lm
from llmengine.integrations.dspy.generation import Generation, installed, installed_version
from llmengine.integrations.dspy.legacy.threads import purge_dead_threads
from llmengine.integrations.dspy.native import native_lm

if TYPE_CHECKING:
    from llmengine.integrations.dspy.legacy.lm import DSPyLLMWrapper as DSPyLLMWrapper

__all__ = [
    "DSPyLLMWrapper",
    "Generation",
    "installed_version",
    "native_lm",
    "purge_dead_threads",
    "to_lm",
]


def __getattr__(name: str) -> Any:
    if name != "DSPyLLMWrapper":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # A class of 2.4's own kind, to be subclassed; later DSPys make theirs by the same call.
    if installed() is not Generation.LEGACY:
        return to_lm
    from llmengine.integrations.dspy.legacy import lm  # noqa: PLC0415 - it imports dspy

    return lm.DSPyLLMWrapper
