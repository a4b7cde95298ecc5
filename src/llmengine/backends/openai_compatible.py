"""The backend ``openai_compatible``: any server with OpenAI's chat completions API.

Examples are gateways, LM Studio, SGLang and llama.cpp.
"""

from __future__ import annotations

from llmengine.backends.base import Backend
from llmengine.dialects.openai_chat import VLLM_EXTRAS, OpenAIChat


class OpenAICompatible(Backend):
    """Any OpenAI-compatible server.

    Its address comes from the configuration or from ``OPENAI_BASE_URL``; there is no default.
    ``OPENAI_API_KEY`` is sent only to the address in ``OPENAI_BASE_URL``.
    """

    name = "openai_compatible"
    endpoint_env = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
    key_env = "OPENAI_API_KEY"
    version_path = "/version"  # vLLM and some gateways have it
    dialect = OpenAIChat(extras=VLLM_EXTRAS)
