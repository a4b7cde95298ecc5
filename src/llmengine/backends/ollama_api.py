"""The backend ``ollama_api``: Ollama's native chat API, or its OpenAI-compatible one."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from llmengine.backends.base import Backend
from llmengine.backends.server_info import ask, object_in, rows
from llmengine.config.address import plain
from llmengine.dialects.fields import quote
from llmengine.dialects.ollama import (
    OllamaChat,
    OllamaOpenAIChat,
    may_be_cut,
    refuse_half_a_context,
)
from llmengine.types.errors import CallError, NotFoundError
from llmengine.types.request import Capability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.backends.connection import Connection
    from llmengine.config.settings import EngineSettings
    from llmengine.dialects.base import Dialect
    from llmengine.types.outputs import Fingerprint, LLMOutput
    from llmengine.types.request import ChatRequest


log = logging.getLogger("llmengine")

_NUM_CTX = re.compile(r"^num_ctx\s+(\d+)", re.MULTILINE)


class OllamaAPI(Backend):
    """Ollama, by default on port 11434 of this machine.

    It uses ``/api/chat``, which has options that ``/v1`` lacks, such as the context size.
    If the endpoint ends in ``/v1``, the OpenAI dialect is used. Environment variables can set
    another default address; ``OLLAMA_HOST`` is the last of them, because Ollama's server also reads
    it, as the address to listen on.
    """

    name = "ollama_api"
    default_endpoint = "http://localhost:11434"
    default_port = 11434
    version_path = "/api/version"
    default_concurrency = 4  # it answers one at a time (OLLAMA_NUM_PARALLEL)
    queues_calls = True
    endpoint_env = ("OLLAMA_API_URL", "OLLAMA_BASE_URL", "OLLAMA_API_BASE", "OLLAMA_HOST")
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability) - {
        Capability.N,
        Capability.LOGIT_BIAS,
    }

    def __init__(self, config: EngineSettings) -> None:
        super().__init__(config)
        self._openai = self.root_url != plain(self.endpoint)
        self.dialect: Dialect = OllamaOpenAIChat() if self._openai else OllamaChat()

    async def identify(self, connection: Connection) -> Fingerprint:
        """The fingerprint, with what ``/api/tags`` and ``/api/show`` report about the model."""
        found = await super().identify(connection)
        row = _row(await _models(connection, "/api/tags"), found.model)
        details: Mapping[str, object] = {}
        if row:
            url = f"{connection.urls.root}/api/show"
            details = object_in(await ask(connection, url, {"model": found.model}))
        digest = row.get("digest")
        return replace(
            found,
            model_digest=digest if isinstance(digest, str) else None,
            max_model_len=_context(details),
        )

    async def check_answer(
        self, connection: Connection, request: ChatRequest, output: LLMOutput
    ) -> None:
        """Refuse an answer of ``/v1`` if its number of prompt tokens is that of a cut prompt."""
        if not self._openai or not may_be_cut(output, request):
            return
        try:
            running = _row(await _models(connection, "/api/ps"), self.config.model)
        except CallError as error:
            log.info("engine %r: its context size is unknown: %s", self.config.name, error.label)
            return
        if isinstance(context := running.get("context_length"), int):
            refuse_half_a_context(output, request, context)

    async def explain(self, connection: Connection, error: CallError) -> None:
        """Add the names of the installed models to the error of a model that is not installed."""
        if not isinstance(error, NotFoundError) or "model" not in error.message:
            return
        try:
            rows = await _models(connection, "/api/tags")
        except CallError as failed:
            log.info("engine %r: its models cannot be listed: %s", self.config.name, failed.label)
            return
        names = quote(", ".join(str(row.get("name")) for row in rows) or "no model at all")
        error.advise(f"the server has {names}; `ollama pull {self.config.model}` gets this one")

    @property
    def url(self) -> str:
        """The URL of the chats, which is under the root for Ollama's own API."""
        return (self.base_url if self._openai else self.root_url) + self.dialect.path


async def _models(connection: Connection, path: str) -> list[dict[str, object]]:
    return rows(object_in(await ask(connection, connection.urls.root + path)), "models")


def _row(rows: list[dict[str, object]], model: str | None) -> dict[str, object]:
    """The row of a model, whose tag may be left out; empty if the model is not listed."""
    names = {model, f"{model}:latest"}
    return next((row for row in rows if row.get("name") in names), {})


def _context(details: Mapping[str, object]) -> int | None:
    """The context size that the model's file sets, else the longest that the model supports."""
    setting = _NUM_CTX.search(str(details.get("parameters") or ""))
    if setting is not None:
        return int(setting[1])
    info = details.get("model_info")
    if not isinstance(info, dict):
        return None
    length = info.get(f"{info.get('general.architecture')}.context_length")
    return length if isinstance(length, int) else None
