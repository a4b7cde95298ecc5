"""Telling litellm, whom DSPy's adapters ask before 3.4, what a server can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import litellm

from llmengine.types.request import Capability

if TYPE_CHECKING:
    from llmengine.engine.engine import Engine


def declare(engine: Engine, model: str, *, has_schemas: bool = False) -> str:
    """The name by which adapters now find what the engine's server can do: the model's own.

    ``has_schemas`` says that schemas may be asked for on any server, since the engine has its
    ladder where they are ignored or refused.
    """
    capabilities = engine.capabilities
    facts = {
        "litellm_provider": model.partition("/")[0],
        "mode": "chat",
        "supports_function_calling": Capability.TOOLS in capabilities,
        "supports_reasoning": Capability.REASONING in capabilities,
        "supports_response_schema": has_schemas or Capability.JSON_SCHEMA in capabilities,
    }
    litellm.register_model({model: facts})
    return model
