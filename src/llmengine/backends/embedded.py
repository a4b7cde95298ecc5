"""The backend ``embedded``: llama.cpp with a small model on this machine.

It needs nothing but the extra ``embedded``.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import fields, replace
from typing import TYPE_CHECKING, ClassVar

from llmengine.backends.base import Backend
from llmengine.dialects.openai_chat import LLAMACPP_EXTRAS, OpenAIChat
from llmengine.embedded.models import chat_template, resolve
from llmengine.embedded.server import EmbeddedServer, ServerOptions, shared
from llmengine.structured.features import LLAMA_CPP_IGNORES
from llmengine.types.errors import ConfigError
from llmengine.types.request import Capability

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine.backends.connection import Connection
    from llmengine.types.outputs import Fingerprint


_OPTION_NAMES = ", ".join(field.name for field in fields(ServerOptions))


class Embedded(Backend):
    """llama.cpp's own server, which is started when it is first needed.

    ``model`` is a name that ``llmengine models list`` shows, or the path of a GGUF file. The
    server is shared by all engines of the process and ends with it. ``options`` of the
    configuration are the fields of ServerOptions. A named model gets a chat template with tools
    unless the options have one. If an ``endpoint`` is configured, no server is
    started and the server at that address is used.
    """

    name = "embedded"
    default_concurrency = 8  # the server has two slots; the next prompts must be ready
    queues_calls = True
    dialect = OpenAIChat(extras=LLAMACPP_EXTRAS)
    ignored_features = LLAMA_CPP_IGNORES
    # Tools can be sent, but are not claimed: llama.cpp takes a named tool_choice for "auto", and
    # with "required" it lets the model write text until the token limit.
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability) - {
        Capability.TOOLS,
        Capability.VISION,
        Capability.REASONING,
    }

    @property
    def server(self) -> EmbeddedServer:
        """The server of this engine, started if it is not running."""
        template = chat_template(self.config.model)
        known = {"chat_template": template} if template else {}
        try:
            options = ServerOptions(**{**known, **self.config.options})
        except TypeError as error:
            msg = f"engine {self.config.name!r}: options: {error}; known are {_OPTION_NAMES}"
            raise ConfigError(msg) from error
        return shared(resolve(self.config.model), alias=self.config.model, options=options)

    async def identify(self, connection: Connection) -> Fingerprint:
        """The fingerprint, with llama.cpp's build and the file's hash if this process runs it."""
        found = await super().identify(connection)
        if self.config.endpoint:
            return found
        # The last part of xllamacpp's version is llama.cpp's build number.
        build = f"b{self.server.version.rpartition('.')[2]}"
        digest = await asyncio.to_thread(_sha256, resolve(self.config.model))
        return replace(found, version=build, model_digest=f"sha256:{digest}")

    @property
    def endpoint(self) -> str:
        """The configured address, or the address of the server that this process runs."""
        return super().endpoint if self.config.endpoint else self.server.root_url


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
