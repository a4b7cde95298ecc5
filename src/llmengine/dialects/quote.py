"""A short, scrubbed look at what a server sent, for error messages."""

from __future__ import annotations

from llmengine.types.secrets import scrub

_SHOWN = 200
_READ = 4096


def quote(body: bytes | str) -> str:
    """The start of a body on one line, keys masked; ``an empty body`` if there is nothing.

    Masked before it is cut, so that no half of a key is left at the end.
    """
    text = body[:_READ].decode("utf-8", "replace") if isinstance(body, bytes) else body[:_READ]
    line = " ".join(scrub(text).split())
    if not line:
        return "an empty body"
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "..."
