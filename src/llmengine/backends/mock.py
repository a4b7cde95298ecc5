"""The backend ``mock``: a client of the mock server, which runs in this process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar

from llmengine.dialects.openai_chat import OpenAIChat
from llmengine.engine.engine import Engine
from llmengine.mock import MockServer
from llmengine.types.request import Capability

if TYPE_CHECKING:
    from llmengine.config.engine import EngineConfig


class Mock(Engine):
    """A client of its own mock server, which is started when it is first needed.

    If an ``endpoint`` is configured, it is a client of the server at that address instead.
    """

    backend = "mock"
    dialect = OpenAIChat()
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)
    trusts_schema = True

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        self._lock = threading.Lock()
        self._server: MockServer | None = None

    @property
    def server(self) -> MockServer:
        """The mock server of this engine, to read its calls and to play scripts and faults."""
        with self._lock:
            if self._server is None:
                self._server = MockServer(model=self.model, api_key=self.api_key)
                self._server.start()
            return self._server

    @property
    def endpoint(self) -> str:
        """The configured address, or the address of the engine's own server."""
        return super().endpoint if self.config.endpoint else self.server.root_url

    def close(self) -> None:
        """Stop the engine's own server; the next call starts a new one."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.stop()
