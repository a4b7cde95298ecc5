"""Mock servers that fail open in the ways real ones do, and engines aimed at them."""

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


class Play:
    """Starts mocks that misbehave, and tells what they were asked."""

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
        """An engine that does not know that a mock with these hooks and replies is behind it."""
        hooks = {"request": request, "reply": reply}
        behaviour = Behaviour(**{k: v for k, v in hooks.items() if v is not None})
        self.server = self._servers.enter_context(
            MockServer(behaviour=behaviour, script=Script(replies=replies))
        )
        fields = {"backend": backend, "model": "mock", "endpoint": self.server.root_url}
        return EngineConfig(**(fields | config)).engine

    @property
    def asked(self) -> list[Any]:
        """The bodies of the requests so far, the probes aside."""
        return [b for c in self.server.calls if _PROBE not in json.dumps(b := c.json)]

    @property
    def probes(self) -> list[Any]:
        """The bodies of the probes so far."""
        return [b for c in self.server.calls if _PROBE in json.dumps(b := c.json)]

    @property
    def formats(self) -> list[str | None]:
        """The types of the response formats asked for so far, the probes aside."""
        return [(b.get("response_format") or {}).get("type") for b in self.asked]

    @staticmethod
    def without(*fields: str) -> Hook:
        """The request hook of a server that does not know these fields and says nothing of it."""
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
        """The reply hook of a model that says `text` to each request that holds `to`.

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
def play() -> Iterator[Play]:
    """Mocks that misbehave."""
    with ExitStack() as servers:
        yield Play(servers)


@pytest.fixture
def engine_for(raw_server: Callable[[Any], Any]) -> Callable[..., tuple[Engine, Any]]:
    """Makes an engine and the raw server that it talks to."""

    def make(handler: Any, **config: Any) -> tuple[Engine, Any]:
        server = raw_server(handler)
        fields = {"backend": "openai_compatible", "model": "m", "endpoint": server.url} | config
        return EngineConfig(**fields).engine, server

    return make
