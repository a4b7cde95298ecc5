"""Keys are scrubbed by their value, so no spelling of a header or a message can leak one."""

from __future__ import annotations

import json
import re
import threading
from urllib.parse import quote

MASK = "[redacted]"

_lock = threading.Lock()
_known: set[str] = set()

# Placeholders that servers without authentication are given; masking them would garble texts.
_PUBLIC = frozenset({"EMPTY", "none", "None", "ollama", "dummy", "test", "mock"})
_MIN_LENGTH = 4


def register(secret: str) -> None:
    """Remember a key, so that `scrub` removes it wherever it turns up, also in a URL or in JSON."""
    if len(secret) >= _MIN_LENGTH and secret not in _PUBLIC:
        with _lock:
            _known.update(_spellings(secret))


def _spellings(secret: str) -> set[str]:
    """The key as it is, percent-encoded (hex digits in either case), and inside a JSON string."""
    escaped = {quote(secret, safe=""), quote(secret)}
    lower = {re.sub("%..", lambda code: code[0].lower(), text) for text in escaped}
    in_json = {json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    return {secret, secret.replace("/", r"\/")} | escaped | lower | in_json


def scrub(text: str) -> str:
    """The text with every registered key replaced by ``[redacted]``."""
    for secret in sorted(_known, key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, MASK)
    return text
