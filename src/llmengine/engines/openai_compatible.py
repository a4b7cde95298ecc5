"""Any server that speaks OpenAI's chat completions: a gateway, LM Studio, SGLang, llama.cpp."""

from __future__ import annotations

from typing import ClassVar

from llmengine.dialects.openai_chat import VLLM_EXTRAS, OpenAIChat
from llmengine.engine.engine import Engine
from llmengine.values.capabilities import Capability


class OpenAICompatible(Engine):
    """A client of any OpenAI-compatible server; the configuration must say where it is."""

    backend = "openai_compatible"
    dialect = OpenAIChat(extras=VLLM_EXTRAS)
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)
