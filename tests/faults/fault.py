"""One fault as data: what the server does, and what the library must make of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .wires import CHAT, MESSAGES, OLLAMA, RESPONSES, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .server import Script
    from .wires import Asked

STYLES = ("generate", "results", "iter_results", "stream", "batch")
ANSWER, WRONG = "answer", "wrong answer"
EMPTY, SHORTER, LONGER = "empty answer", "shorter answer", "longer answer"
AS_IT_CAME = "as it came"


@dataclass(frozen=True)
class Backend:
    """One column of the matrix: the configuration of an engine, and the format of its requests."""

    name: str
    config: Mapping[str, Any]
    wire: Wire = CHAT
    path: str = "/v1"
    client: str = "asyncio"

    def words(self, style: str) -> set[str]:
        """The words by which a fault's ``unless`` may name this cell.

        A batch file is sent over the library's own connections by every backend, and
        Ollama's by its OpenAI-compatible route.
        """
        if style == "batch":
            wire = CHAT if self.wire in (MESSAGES, OLLAMA) else self.wire
            return {"batch", "whole", "asyncio", wire.name, self.name}
        kind = "stream" if style == "stream" else "whole"
        return {"prompts", kind, self.client, self.wire.name, self.name}


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("openai_compatible", {"backend": "openai_compatible"}),
        Backend("anthropic_compatible", {"backend": "anthropic_compatible"}, wire=MESSAGES),
        Backend("vllm_api", {"backend": "vllm_api"}),
        Backend("ollama_api", {"backend": "ollama_api"}, wire=OLLAMA, path=""),
        Backend("ollama_api/v1", {"backend": "ollama_api"}),
        Backend("openai/chat", {"backend": "openai", "options": {"api": "chat"}}, client="sdk"),
        Backend("openai/responses", {"backend": "openai"}, wire=RESPONSES, client="sdk"),
    )
}


@dataclass(frozen=True)
class Fault:
    """One row of the matrix.

    An outcome is "answer" for the true one, or the name of the error, then "retried" if the request
    was sent again, then "partial" if the error holds text that had arrived. An "empty", "shorter"
    or "longer answer" has just the text that the server sent, which was not all or was more; a line
    of a batch file with a server's odd body is "as it came".

    ``whole`` is the outcome of the calls that ask for whole answers, ``stream`` of a stream.
    ``unless`` has the other outcomes, by words of `Backend.words`; of the entries that fit, the one
    with the most words holds. ``after`` is the outcome of the prompt after the one that met it.

    ``everywhere`` is true for a fault of the server and not of one answer, so that every prompt
    meets it. If ``reads`` is false, the script is played before a request is read; if ``listens``
    is false, no server listens. If ``unread`` is true, the server may break off before it has read
    the next request, which then counts as an attempt that it did not see. ``by_clock`` names the
    clock that ends the call, if one does. ``says`` makes the text of the answer from the true one;
    ``calls`` is the number of its tool calls.
    """

    name: str
    script: Callable[[Asked], Script]
    whole: str = ANSWER
    stream: str = ANSWER
    unless: Mapping[str, str] = field(default_factory=dict)
    everywhere: bool = False
    after: str = ANSWER
    reads: bool = True
    listens: bool = True
    unread: bool = False
    scheme: str = "http"
    by_clock: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    says: Callable[[str], str] = str
    calls: int = 0

    def outcome(self, backend: Backend, style: str, *, after: bool = False) -> str:
        """The outcome that is required there, or of the prompt after it."""
        words = backend.words(style) | ({"after"} if after else {"fault"})
        fits = [key for key in self.unless if set(key.split()) <= words]
        fits = [key for key in fits if "after" in key.split() or not after]
        if fits:
            return self.unless[max(fits, key=lambda key: len(key.split()))]
        if after:
            return self.after
        return self.stream if style == "stream" else self.whole
