"""Which transport a request takes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmengine.transport.base import Transport

# Where respx, pytest-httpx and their like take over httpx: (module, class, method).
_SEAMS = (
    ("httpcore", "AsyncConnectionPool", "handle_async_request"),
    ("httpx", "AsyncHTTPTransport", "handle_async_request"),
    ("httpx", "AsyncClient", "_transport_for_url"),
)


def httpx_is_taken_over() -> bool:
    """Whether somebody has replaced the way httpx sends requests.

    A person who mocks httpx means that nothing leaves the process, so their mock must be asked
    rather than passed by.
    """
    if "httpx" not in sys.modules:
        return False
    for package, class_name, method in _SEAMS:
        owner = getattr(sys.modules.get(package), class_name, None)
        function = getattr(owner, method, None)
        if function is not None and not function.__module__.startswith(package):
            return True
    return False


def transport_name(setting: str) -> str:
    """The transport for one request: the setting, or for "auto" the one that fits."""
    if setting == "auto":
        return "httpx" if httpx_is_taken_over() else "aiohttp"
    return setting


def make_transport(name: str) -> Transport:
    """A new transport; to be called on the loop that will use it."""
    if name == "httpx":
        from llmengine.transport.httpx_transport import HttpxTransport  # noqa: PLC0415 - on demand

        return HttpxTransport()
    from llmengine.transport.aiohttp_transport import AiohttpTransport  # noqa: PLC0415 - on demand

    return AiohttpTransport()
