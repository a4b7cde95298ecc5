"""Telling a DSPy from 3.4 on what a server can do: the server as a provider of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dspy import lm15

from llmengine.types.request import Capability

if TYPE_CHECKING:
    from llmengine.engine.engine import Engine

_PRESET = "vllm"  # the spellings of a server that is not OpenAI's
_NO_KEY = "EMPTY"


def declare(engine: Engine, model: str) -> str:
    """The model under the server's own name, which says what it can do.

    The name is made of the address, so that a saved program finds it where this was called too,
    and DSPy's cache keeps servers apart.
    """
    where = urlsplit(engine.root_url).netloc.lower()
    name = "llmengine-" + re.sub(r"[^a-z0-9]+", "-", where).strip("-")
    access = lm15.AccessPolicy(provider=name, base_url=engine.base_url)
    spellings = lm15.OpenAIChatCompat.preset(_PRESET)
    lm15.register_provider(
        lm15.ProviderDefinition.chat(access, compat=spellings, placeholder_key=_NO_KEY),
        supports=_support(engine.capabilities),
        replace=True,
    )
    return f"{name}/{model.partition('/')[2]}"


def _support(capabilities: frozenset[Capability]) -> lm15.ModelSupport:
    return lm15.ModelSupport(
        function_calling=Capability.TOOLS in capabilities,
        reasoning=Capability.REASONING in capabilities,
        response_schema=Capability.JSON_SCHEMA in capabilities,
    )
