"""Whether a server is up: it answers one token, as no log line and no open port can promise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from pytest_llmengine.containers.starting import Starting

_WANTED = "answer a token"
# Codes of the 4xx range that mean "later".
_LATER = frozenset(
    {
        httpx.codes.REQUEST_TIMEOUT,
        httpx.codes.TOO_EARLY,
        httpx.codes.TOO_MANY_REQUESTS,
    }
)
_MAX_SHOWN = 300


def wait_for_token(starting: Starting) -> None:
    """Return when a chat completion has answered a token.

    Raises ContainerError when the container dies, the time is over, or the server refuses.
    """
    with starting.client() as client:
        while (trouble := _trouble(client, starting)) is not None:
            starting.not_yet(trouble, _WANTED)


def _trouble(client: httpx.Client, starting: Starting) -> str | None:
    """What keeps the server from answering now; None if it has answered."""
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": starting.spec.model, "messages": messages, "max_tokens": 1}
    try:
        reply = client.post("/v1/chat/completions", json=body, timeout=starting.left)
    except httpx.TransportError as error:
        return str(error) or type(error).__name__
    if _has_answered(reply):
        return None
    said = f"HTTP {reply.status_code} {reply.text[:_MAX_SHOWN]}".strip()
    if reply.is_client_error and reply.status_code not in _LATER:
        raise starting.failed(f"refuses to {_WANTED} ({said})")
    return said


def _has_answered(reply: httpx.Response) -> bool:
    try:
        return reply.is_success and bool(reply.json()["choices"])
    except (ValueError, KeyError, TypeError):
        return False
