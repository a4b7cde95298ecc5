"""The search for keys in texts: of known values, and of the formats that providers document.

Keys are also found in percent-encoding, with escapes of JSON, in base64 and in hex. A key that was
found is never part of a message.
"""

from __future__ import annotations

import base64
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from llmengine.types.secrets import is_secret_name, learn, scrub

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the keys of each provider look like. A key matches only one of these.
_FORMATS = {
    "a key of Anthropic": r"sk-ant-[\w-]{20,}",
    "a key of OpenRouter": r"sk-or-[\w-]{20,}",
    "a key of OpenAI's format": r"sk-(?!ant-|or-)(?=[\w-]*\d)[\w-]{20,}",
    "a token of Hugging Face": r"hf_[A-Za-z0-9]{20,}",
    "a key of Groq": r"gsk_[A-Za-z0-9]{20,}",
    "a key of xAI": r"xai-[A-Za-z0-9]{20,}",
    "a key of Google": r"AIza[\w-]{35}",
    "a key of NVIDIA": r"nvapi-[\w-]{20,}",
    "a key of Perplexity": r"pplx-[A-Za-z0-9]{20,}",
    "a token of Replicate": r"r8_[A-Za-z0-9]{20,}",
    "a key of AWS": r"(?:AKIA|ASIA)[A-Z0-9]{16}",
    "a token of GitHub": r"(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})",
    "a token of Slack": r"xox[abeprs]-[\w-]{20,}",
    "a JSON Web Token": r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+",
    "a bearer token": r"Bearer (?!\w{2,6}[-_]|eyJ)(?=[\w.~+/-]*\d)[\w.~+/-]{20,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}
_FORMAT = {kind: re.compile(rf"(?<![\w-]){pattern}") for kind, pattern in _FORMATS.items()}
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{28,}={0,2}")
_STANDARD = str.maketrans("-_", "+/")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){20,}")
_UNICODE_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


def learn_environment() -> None:
    """Register the keys that environment variables hold, so that they are found by their value."""
    for name, value in os.environ.items():
        if is_secret_name(name, "pair"):
            learn(value)


def keys_in_text(text: str) -> Iterator[str]:
    """The kind of each key in a text, and how it is encoded if it is."""
    if scrub(text) != text:
        yield "a key that is known by its value"
    found: set[str] = set()
    for encoding, plain in _readings(text):
        for kind, pattern in _FORMAT.items():
            if kind not in found and pattern.search(plain):
                found.add(kind)
                yield f"{kind}{encoding}"


def _readings(text: str) -> Iterator[tuple[str, str]]:
    """The text as it is, and what its encoded parts say."""
    yield "", text
    if "%" in text:
        yield ", percent-encoded", unquote(text)
    if "\\" in text:
        unescaped = _UNICODE_ESCAPE.sub(lambda code: chr(int(code[1], 16)), text)
        yield ", escaped in JSON", unescaped.replace(r"\/", "/")
    yield ", in base64", "\n".join(map(_from_base64, _BASE64.findall(text)))
    yield ", in hex", "\n".join(map(_from_hex, _HEX.findall(text)))


def _from_base64(word: str) -> str:
    word = word.rstrip("=").translate(_STANDARD)
    return base64.b64decode(word[: len(word) - len(word) % 4]).decode("latin-1")


def _from_hex(word: str) -> str:
    return bytes.fromhex(word).decode("latin-1")
