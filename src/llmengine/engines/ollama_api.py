"""Ollama's HTTP server: its native chat, or its OpenAI-compatible one when asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from llmengine.dialects.ollama_chat import OllamaChat
from llmengine.dialects.ollama_openai import OllamaOpenAIChat
from llmengine.engine.addresses import plain
from llmengine.engine.asides import get, object_in
from llmengine.engine.engine import Engine
from llmengine.engine.fingerprints import rows
from llmengine.values.capabilities import Capability

if TYPE_CHECKING:
    from llmengine.config.engine_config import EngineConfig
    from llmengine.dialects.base import Dialect
    from llmengine.engine.calls import Call
    from llmengine.values.fingerprint import Fingerprint


class OllamaAPI(Engine):
    """A client of Ollama, by default on port 11434 of this machine.

    It speaks ``/api/chat``, which can say more than Ollama's ``/v1`` (the context size, for one).
    An endpoint that ends in ``/v1`` asks for the OpenAI dialect. Variables move the default;
    ``OLLAMA_HOST`` comes last of them, since Ollama's server listens by it too.
    """

    backend = "ollama_api"
    default_endpoint = "http://localhost:11434"
    default_port = 11434
    version_path = "/api/version"
    endpoint_env = ("OLLAMA_API_URL", "OLLAMA_BASE_URL", "OLLAMA_API_BASE", "OLLAMA_HOST")
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability) - {
        Capability.N,
        Capability.LOGIT_BIAS,
    }

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        self._openai = self.root_url != plain(self.endpoint)
        self.dialect: Dialect = OllamaOpenAIChat() if self._openai else OllamaChat()

    async def identified(self, call: Call) -> Fingerprint:
        """The fingerprint with the digest of the model, which ``/api/tags`` lists."""
        found = await super().identified(call)
        names = {found.model, f"{found.model}:latest"}
        listed = rows(object_in(await get(call, f"{self.root_url}/api/tags")), "models")
        digest = next((row.get("digest") for row in listed if row.get("name") in names), None)
        return replace(found, model_digest=digest)

    @property
    def url(self) -> str:
        """Where this engine's own requests go."""
        return (self.base_url if self._openai else self.root_url) + self.dialect.path
