"""The backend ``mock``: a client of the mock server, which runs in this process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from llmengine.backends.base import Backend
from llmengine.dialects.openai_chat import OpenAIChat
from llmengine.mock import MockServer

if TYPE_CHECKING:
    from llmengine.config.settings import EngineSettings


class Mock(Backend):
    """The mock server of one engine, which is started when it is first needed.

    If an ``endpoint`` is configured, the server at that address is used instead.
    """

    name = "mock"
    dialect = OpenAIChat()
    trusts_schema = True

    def __init__(self, config: EngineSettings) -> None:
        super().__init__(config)
        self._lock = threading.Lock()
        self._server: MockServer | None = None

    @property
    def server(self) -> MockServer:
        """The mock server of this engine, to read its calls and to play scripts and faults."""
        with self._lock:
            if self._server is None:
                self._server = MockServer(model=self.config.model, api_key=self.address.key)
                self._server.start()
            return self._server

    @property
    def endpoint(self) -> str:
        """The configured address, or the address of the engine's own server."""
        return super().endpoint if self.config.endpoint else self.server.root_url

    def close(self) -> None:
        """Stop the engine's own server; the next call starts a new one."""
        super().close()
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.stop()
