"""Keys are scrubbed by their value, so no spelling of a header or a message can leak one."""

from __future__ import annotations

import json
import re
import threading
from urllib.parse import quote

MASK = "[redacted]"

_lock = threading.Lock()
# Longest first, so that a key that holds another is masked whole; replaced, never changed, so
# that readers need no lock.
_known: tuple[str, ...] = ()

# Placeholders that servers without authentication are given; masking them would garble texts.
_PUBLIC = frozenset({"EMPTY", "none", "None", "ollama", "dummy", "test", "mock"})
_MIN_LENGTH = 4


def register(secret: str) -> None:
    """Remember a key, so that `scrub` removes it wherever it turns up, also in a URL or in JSON.

    Placeholders and keys of fewer than 4 characters are not: they are parts of common words.
    """
    global _known  # noqa: PLW0603 - one register a process
    if len(secret) < _MIN_LENGTH or secret in _PUBLIC:
        return
    with _lock:
        _known = tuple(sorted({*_known, *_spellings(secret)}, key=len, reverse=True))


def _spellings(secret: str) -> set[str]:
    """The key as it is, percent-encoded (hex digits in either case), and inside a JSON string."""
    escaped = {quote(secret, safe=""), quote(secret)}
    lower = {re.sub("%..", lambda code: code[0].lower(), text) for text in escaped}
    in_json = {json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    return {secret, secret.replace("/", r"\/")} | escaped | lower | in_json


def scrub(text: str) -> str:
    """The text with every registered key replaced by ``[redacted]``."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, MASK)
    return text
