"""A reference server, and short functions for requests to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Api:
    """Plain HTTP requests to one server; bodies name the served model by default."""

    server: MockServer
    http: httpx.Client

    def post(self, path: str, **body: Any) -> httpx.Response:
        """POST a body with the name of the served model."""
        return self.http.post(path, json={"model": self.server.model} | body)

    def chat(self, prompt: str | list[Any] = "Tell me.", **params: Any) -> httpx.Response:
        """POST a chat completion."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return self.post("/v1/chat/completions", messages=messages, **params)

    def said(self, prompt: str | list[Any] = "Tell me.", **params: Any) -> Any:
        """The first choice of a chat completion that must succeed."""
        response = self.chat(prompt, **params)
        assert response.status_code == 200, response.text
        return response.json()["choices"][0]

    def text(self, prompt: str | list[Any] = "Tell me.", **params: Any) -> str:
        """The text of the first choice."""
        content: str = self.said(prompt, **params)["message"]["content"]
        return content

    def chunks(self, prompt: str | list[Any] = "Tell me.", **params: Any) -> list[Any]:
        """The JSON events of a chat stream, which must end in ``[DONE]``."""
        return self.events(self.chat(prompt, stream=True, **params))

    @staticmethod
    def events(response: httpx.Response) -> list[Any]:
        """The JSON events of a server-sent stream that ends in ``[DONE]``."""
        assert response.status_code == 200, response.text
        data = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
        assert data[-1] == "[DONE]"
        return [json.loads(d) for d in data[:-1]]


@pytest.fixture(scope="session")
def reference() -> Iterator[Api]:
    """The reference server; tests that change a server start their own."""
    with MockServer() as server, _client(server) as client:
        yield Api(server, client)


@pytest.fixture
def start() -> Iterator[Callable[..., Api]]:
    """Starts a server with the test's own settings; it stops at the end of the test."""
    servers: list[tuple[MockServer, httpx.Client]] = []

    def started(**settings: Any) -> Api:
        server = MockServer(**settings)
        server.start()
        servers.append((server, _client(server)))
        return Api(*servers[-1])

    yield started
    for server, client in servers:
        client.close()
        server.stop()


def _client(server: MockServer) -> httpx.Client:
    # Without verify=False every client reads the system's certificates, for 20 ms.
    return httpx.Client(
        base_url=server.root_url,
        headers={"anthropic-version": "2023-06-01"},
        trust_env=False,
        timeout=10,
        verify=False,
    )
