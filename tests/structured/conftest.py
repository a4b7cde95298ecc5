"""Mock servers that fail open as real ones do, and engines for them."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import EngineConfig
from llmengine.mock import Behaviour, MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmengine import Engine

    Hook = Callable[[Any, Any], Any]

_PROBE = "capital of France"


class MockServers:
    """Starts mock servers that misbehave, and keeps the requests that they got."""

    def __init__(self, servers: ExitStack) -> None:
        self._servers = servers
        self.server: MockServer

    def engine(
        self,
        *replies: Any,
        request: Hook | None = None,
        reply: Hook | None = None,
        backend: str = "openai_compatible",
        **config: Any,
    ) -> Engine:
        """An engine for a mock server with these hooks and replies, as for an unknown server."""
        hooks = {"request": request, "reply": reply}
        behaviour = Behaviour(**{k: v for k, v in hooks.items() if v is not None})
        self.server = self._servers.enter_context(
            MockServer(behaviour=behaviour, script=Script(replies=replies))
        )
        fields = {"backend": backend, "model": "mock", "endpoint": self.server.root_url}
        return EngineConfig(**(fields | config)).engine

    @property
    def requests(self) -> list[Any]:
        """The bodies of the requests so far, without the probes."""
        return [b for c in self.server.calls if _PROBE not in json.dumps(b := c.json)]

    @property
    def probes(self) -> list[Any]:
        """The bodies of the probes so far."""
        return [b for c in self.server.calls if _PROBE in json.dumps(b := c.json)]

    @property
    def formats(self) -> list[str | None]:
        """The types of the requested response formats so far, without the probes."""
        return [(b.get("response_format") or {}).get("type") for b in self.requests]

    @staticmethod
    def without(*fields: str) -> Hook:
        """The request hook of a server that silently drops these fields."""
        return lambda body, _: {k: v for k, v in body.items() if k not in fields}

    @staticmethod
    def refusing(*types: str) -> Hook:
        """The request hook of a server that answers these types of response_format with a 400."""

        def hook(body: Any, _: Any) -> Any:
            if (body.get("response_format") or {}).get("type") in types:
                body["response_format"] = {"type": "not supported here"}
            return body

        return hook

    @staticmethod
    def saying(text: str, *, to: str = "", finish: str = "stop") -> Hook:
        """The reply hook of a model that says `text` to each request that has `to`.

        The probe is answered as it would be without the hook.
        """

        def hook(reply: Any, call: Any) -> Any:
            asked = json.dumps(call.json)
            if to not in asked or _PROBE in asked:
                return reply
            if "choices" in reply:
                reply["choices"][0]["message"]["content"] = text
                reply["choices"][0]["finish_reason"] = finish
            else:
                reply["message"]["content"] = text
                reply["done_reason"] = finish
            return reply

        return hook


@pytest.fixture
def mock_servers() -> Iterator[MockServers]:
    """Mock servers that misbehave."""
    with ExitStack() as servers:
        yield MockServers(servers)


@pytest.fixture
def engine_for(raw_server: Callable[[Any], Any]) -> Callable[..., tuple[Engine, Any]]:
    """Makes an engine and the raw server that it talks to."""

    def make(handler: Any, **config: Any) -> tuple[Engine, Any]:
        server = raw_server(handler)
        fields = {"backend": "openai_compatible", "model": "m", "endpoint": server.url} | config
        return EngineConfig(**fields).engine, server

    return make
