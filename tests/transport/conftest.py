"""An engine for a raw server, over each transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine import EngineConfig

if TYPE_CHECKING:
    from collections.abc import Callable

SENDERS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "openai_compatible", "transport": "asyncio"},
    "aiohttp": {"backend": "openai_compatible", "transport": "aiohttp"},
    "httpx": {"backend": "openai_compatible", "transport": "httpx"},
    "openai": {"backend": "openai", "options": {"api": "chat"}},
}


@pytest.fixture(params=SENDERS)
def sent(request: pytest.FixtureRequest, raw_server: Any) -> Callable[..., Any]:
    """Makes an engine without retries and its server, once for each transport."""

    def make(handler: Any, **config: Any) -> Any:
        if request.param == "openai":
            pytest.importorskip("openai")
        server = raw_server(handler)
        fields = {"model": "m", "endpoint": server.url, "max_retries": 0}
        return EngineConfig(**SENDERS[request.param], **(fields | config)).engine, server

    return make
