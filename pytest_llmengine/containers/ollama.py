"""Has Ollama's server get a model, by its own API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx

from pytest_llmengine.containers.progress import Layers

if TYPE_CHECKING:
    from pytest_llmengine.containers.progress import OnProgress
    from pytest_llmengine.containers.starting import Starting

# The server writes several lines a second while bytes come, and none while it checks their hash.
_SILENCE = 300.0


def ensure_model(starting: Starting, on_progress: OnProgress) -> None:
    """Pull the container's model unless it has it; raises ContainerError with the reason.

    The download itself has no time limit, only its silences: a model may be hundreds of gigabytes.
    """
    with starting.client() as client:
        if not _has_model(client, starting):
            _pull(client, starting, on_progress)


def _has_model(client: httpx.Client, starting: Starting) -> bool:
    while True:
        try:
            reply = client.post(
                "/api/show", json={"model": starting.spec.model}, timeout=starting.left
            )
        except httpx.TransportError as error:
            starting.not_yet(str(error) or type(error).__name__, "answer")
            continue
        if not reply.is_server_error:
            return reply.is_success
        starting.not_yet(f"HTTP {reply.status_code}", "answer")


def _pull(client: httpx.Client, starting: Starting, on_progress: OnProgress) -> None:
    model = starting.spec.model
    layers = Layers(f"pulling model {model}", on_progress)
    last: dict[str, Any] = {}
    try:
        with client.stream("POST", "/api/pull", json={"model": model}, timeout=_SILENCE) as reply:
            for line in reply.iter_lines():
                last = _read(line)
                if "error" in last:
                    break
                if "total" in last:
                    layers.report(last["digest"], last.get("completed", 0), last["total"])
    except httpx.TransportError as error:
        starting.check_alive()
        last = {"error": str(error) or type(error).__name__}
    if last.get("status") != "success":
        why = last.get("error") or f"the pull stopped after {last.get('status') or 'nothing'!r}"
        raise starting.failed(f"cannot pull the model {model!r} ({why})")


def _read(line: str) -> dict[str, Any]:
    """One line of the answer; what is no JSON object is some other server's error."""
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"error": line}
