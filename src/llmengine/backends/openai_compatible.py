"""Any server that speaks OpenAI's chat completions: a gateway, LM Studio, SGLang, llama.cpp."""

from __future__ import annotations

from typing import ClassVar

from llmengine.dialects.openai_chat import VLLM_EXTRAS, OpenAIChat
from llmengine.engine.engine import Engine
from llmengine.types.request import Capability


class OpenAICompatible(Engine):
    """A client of any OpenAI-compatible server.

    The configuration says where it is, or ``OPENAI_BASE_URL``; there is no default.
    ``OPENAI_API_KEY`` goes to the address in ``OPENAI_BASE_URL`` and to no other.
    """

    backend = "openai_compatible"
    endpoint_env = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
    key_env = "OPENAI_API_KEY"
    version_path = "/version"  # vLLM has it, and so have some gateways
    dialect = OpenAIChat(extras=VLLM_EXTRAS)
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)
