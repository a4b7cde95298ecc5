"""What may still be sent while a tool for tests, such as respx, has replaced an HTTP client.

A user who mocks an HTTP client does not want a request to leave the process. So while a client is
mocked, an engine sends only through a mocked client, or to a server that this process has started
itself, such as a `MockServer`, a recorder or a replayer. Every other request is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmengine.types.errors import NotMockedError
from llmengine.types.hosts import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping


def refuse_unmocked(client: str, mocks: Mapping[str, str], url: str) -> None:
    """Raise NotMockedError if other clients are mocked, and this one would reach a server."""
    if mocks and client not in mocks and not is_started_here(url):
        mocked, tool = next(iter(mocks.items()))
        raise NotMockedError(
            f"nothing was sent to {url}: {tool} has replaced {mocked} in this process, but this "
            f"engine uses {client}, so the request would go past the mock to the real server; "
            f"mock {client}, or give the engine a server of this process, such as mock_server"
        )


def unanswered(error: BaseException, url: str) -> NotMockedError | None:
    """The NotMockedError for a mock's own exception for a request that it has no answer to."""
    kind = type(error)
    is_respx = kind.__name__ == "AllMockedAssertionError"
    # httpx itself raises only subclasses of this class; pytest-httpx raises the class.
    is_pytest_httpx = kind.__name__ == "TimeoutException"
    if not (is_respx or is_pytest_httpx):
        return None
    tool = "respx" if is_respx else "pytest-httpx"
    return NotMockedError(
        f"nothing was sent to {url}: {tool} has replaced the HTTP client in this process, and has "
        f"no answer for this request; mock it too, or let {tool} pass it on to the server"
    )


# The servers that this process has started, as (host, port); "" stands for this machine.
_started: set[tuple[str, int | None]] = set()


def add_started(url: str) -> None:
    """Record that this process has started a server, which may be reached past a mock."""
    _started.add(_origin(url))


def remove_started(url: str) -> None:
    """Record that a server of this process has stopped."""
    _started.discard(_origin(url))


def is_started_here(url: str) -> bool:
    """Whether a URL leads to a server that this process has started."""
    return bool(_started) and _origin(url) in _started


def _origin(url: str) -> tuple[str, int | None]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return "" if is_loopback(host) or host in {"0.0.0.0", "::"} else host, parts.port  # noqa: S104 - compared
