"""Ollama's HTTP server: its native chat, or its OpenAI-compatible one when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from llmengine.dialects.ollama_chat import OllamaChat
from llmengine.dialects.ollama_openai import OllamaOpenAIChat
from llmengine.engine.engine import Engine
from llmengine.values.capabilities import Capability

if TYPE_CHECKING:
    from llmengine.config.engine_config import EngineConfig
    from llmengine.dialects.base import Dialect


class OllamaAPI(Engine):
    """A client of Ollama, by default on port 11434 of this machine.

    It speaks ``/api/chat``, which can say more than Ollama's ``/v1`` (the context size, for one).
    An endpoint that ends in ``/v1`` asks for the OpenAI dialect. Variables move the default;
    ``OLLAMA_HOST`` comes last of them, since Ollama's server listens by it too.
    """

    backend = "ollama_api"
    default_endpoint = "http://localhost:11434"
    default_port = 11434
    endpoint_env = ("OLLAMA_API_URL", "OLLAMA_BASE_URL", "OLLAMA_API_BASE", "OLLAMA_HOST")
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability) - {
        Capability.N,
        Capability.LOGIT_BIAS,
    }

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        self._openai = self.endpoint.endswith("/v1")
        self.dialect: Dialect = OllamaOpenAIChat() if self._openai else OllamaChat()

    @property
    def url(self) -> str:
        """Where this engine's own requests go."""
        return (self.base_url if self._openai else self.root_url) + self.dialect.path
