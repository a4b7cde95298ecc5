"""Registers a server's capabilities with litellm, where DSPy's adapters look before 3.4."""

from __future__ import annotations

from typing import TYPE_CHECKING

import litellm

from llmengine.types.request import Capability

if TYPE_CHECKING:
    from llmengine.engine.engine import Engine


def declare(engine: Engine, model: str, *, has_schemas: bool = False) -> str:
    """Register the server's capabilities under the model's name, and return that name.

    With ``has_schemas`` adapters may request schemas from every server, because the engine tries
    other ways if the server ignores or refuses them.
    """
    capabilities = engine.backend.capabilities
    entry = {
        "litellm_provider": model.partition("/")[0],
        "mode": "chat",
        "supports_function_calling": Capability.TOOLS in capabilities,
        "supports_reasoning": Capability.REASONING in capabilities,
        "supports_response_schema": has_schemas or Capability.JSON_SCHEMA in capabilities,
    }
    litellm.register_model({model: entry})
    return model
