"""The language model that the installed DSPy takes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llmengine.integrations.dspy.asker import Asker
from llmengine.integrations.dspy.generation import Generation, installed
from llmengine.integrations.dspy.source import engine_of

if TYPE_CHECKING:
    from llmengine.integrations.dspy.source import Source

_HOMES = {
    Generation.LEGACY: "legacy.lm",
    Generation.FORWARD: "forward.lm",
    Generation.ENGINE: "lm15.lm",
}


def to_lm(source: Source, *, num_retries: int | None = None, **arguments: Any) -> Any:
    """A ``dspy.LM`` over an engine, its configuration or a worker, for the DSPy installed here.

    The engine retries, ``num_retries`` times or as configured, and DSPy does not. ``arguments``
    are those of the DSPy's own LM, such as ``temperature``, ``max_tokens`` or ``callbacks``.
    ``cache`` is off unless asked for; 2.4 has none for this model. Raises ConfigError where there
    is no DSPy, or for a source that is none.
    """
    home = import_module(f"{__package__}.{_HOMES[installed()]}")
    if installed() is not Generation.LEGACY:
        arguments = {"cache": False} | arguments
    return home.make(Asker(engine_of(source, num_retries=num_retries)), **arguments)
