"""Keys are scrubbed by their value, so no spelling of a header or a message can leak one."""

from __future__ import annotations

import threading

MASK = "[redacted]"

_lock = threading.Lock()
_known: set[str] = set()

# Placeholders that servers without authentication are given; masking them would garble texts.
_PUBLIC = frozenset({"EMPTY", "none", "None", "ollama", "dummy", "test", "mock"})
_MIN_LENGTH = 4


def register(secret: str) -> None:
    """Remember a key, so that `scrub` removes it wherever it turns up."""
    if len(secret) >= _MIN_LENGTH and secret not in _PUBLIC:
        with _lock:
            _known.add(secret)


def scrub(text: str) -> str:
    """The text with every registered key replaced by ``[redacted]``."""
    for secret in sorted(_known, key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, MASK)
    return text
