"""vLLM's own HTTP server."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from llmengine.dialects.openai_chat import VLLM_EXTRAS, OpenAIChat
from llmengine.engine.engine import Engine
from llmengine.types.request import Capability
from llmengine.vllm_server.removed import refuse_removed
from llmengine.vllm_server.tokenizer import ServerTokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.engine.call import Call
    from llmengine.transport.base import Outgoing
    from llmengine.types.request import ChatRequest


class VLLMAPI(Engine):
    """A client of ``vllm serve``, by default on port 8000 of this machine.

    ``VLLM_BASE_URL`` moves the default, and so do the names that any-llm and litellm use;
    ``VLLM_API_KEY`` is the key, if the server wants one. ``VLLM_PORT`` and ``VLLM_HOST_IP`` are
    for vLLM's own processes and say nothing of where its API is.
    """

    backend = "vllm_api"
    default_endpoint = "http://localhost:8000/v1"
    endpoint_env = ("VLLM_BASE_URL", "VLLM_API_BASE", "HOSTED_VLLM_API_BASE")
    key_env = "VLLM_API_KEY"
    version_path = "/version"
    endpoint_keys: ClassVar[Mapping[str, str | None]] = {
        "HOSTED_VLLM_API_BASE": "HOSTED_VLLM_API_KEY"
    }
    dialect = OpenAIChat(
        extras=VLLM_EXTRAS,
        thinking_kwarg="enable_thinking",
        strict_tools=True,
        twin_reasoning=True,
    )
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)
    tokenizer = ServerTokenizer()

    def outgoing(self, call: Call, request: ChatRequest) -> Outgoing:
        """The request, if it has no field that vLLM would take and ignore."""
        refuse_removed(request.extra_body)
        return super().outgoing(call, request)
