"""DSPy's own language model, aimed at a target."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from pytest_llmengine.contract.target import Target

MAX_TOKENS = 120  # enough for what the checks ask, and soon over where a model rambles
_NO_KEY = "EMPTY"  # no server is asked for a key, but DSPy asks for one


def import_dspy() -> ModuleType:
    """DSPy, which must not fetch a list of prices while it is imported."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import dspy  # noqa: PLC0415 - heavy and optional

    module: ModuleType = dspy
    return module


def language_model(target: Target, features: frozenset[str] = frozenset()) -> Any:
    """A ``dspy.LM`` that asks the target, once a call and never a cache.

    ``features`` is what DSPy is told that the model can do: ``tools``, ``json_object`` or
    ``json_schema``. Of a model that it does not know it supposes nothing.
    """
    lm = import_dspy().LM
    model = f"openai/{target.model}"
    if hasattr(lm, "supported_params"):
        lm = _declaring(lm, features)
    else:
        _tell_litellm(model, features)
    return lm(
        model,
        api_base=target.base_url,
        api_key=target.api_key or _NO_KEY,
        cache=False,
        num_retries=0,
        temperature=0,
        max_tokens=MAX_TOKENS,
        timeout=target.limits.answer,
    )


def _declaring(lm: Any, features: frozenset[str]) -> Any:
    """From 3.4 on DSPy asks the language model itself what it can do."""
    params = {"tools", "tool_choice"} if "tools" in features else set()
    if features & {"json_object", "json_schema"}:
        params.add("response_format")
    return type(
        "DeclaringLM",
        (lm,),
        {
            "supports_function_calling": "tools" in features,
            "supports_response_schema": "json_schema" in features,
            "supported_params": params,
        },
    )


def _tell_litellm(model: str, features: frozenset[str]) -> None:
    """Up to 3.3 DSPy asks litellm, which says what it was told last."""
    import litellm  # noqa: PLC0415 - heavy and optional

    known = {
        "litellm_provider": "openai",
        "mode": "chat",
        "supports_function_calling": "tools" in features,
        "supports_response_schema": "json_schema" in features,
    }
    litellm.register_model({model: known})
