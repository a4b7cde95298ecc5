"""vLLM's own HTTP server."""

from __future__ import annotations

from typing import ClassVar

from llmengine.dialects.openai_chat import VLLM_EXTRAS, OpenAIChat
from llmengine.engine.engine import Engine
from llmengine.values.capabilities import Capability


class VLLMAPI(Engine):
    """A client of ``vllm serve``, by default on port 8000 of this machine.

    ``VLLM_BASE_URL`` moves the default; ``VLLM_API_KEY`` is the key, if the server wants one.
    """

    backend = "vllm_api"
    default_endpoint = "http://localhost:8000/v1"
    endpoint_env = ("VLLM_BASE_URL",)
    key_env = "VLLM_API_KEY"
    dialect = OpenAIChat(extras=VLLM_EXTRAS, thinking_kwarg="enable_thinking")
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)
