"""What is taken out of an exchange before it is kept: nothing else ever reaches the disk.

Request headers are kept by name (a short list), response headers dropped by name. In bodies, URLs
and the headers that are kept, every registered key is replaced by its value, and so is every key
that a request carried in its headers. What stands under the name of a key in a query, a form or a
JSON body goes too; `llmengine.types.secrets` says which names these are.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from vcr.request import Request as VcrRequest

from llmengine.types.secrets import (
    MASK,
    is_secret_name,
    keys_in,
    mask_pairs,
    register,
    scrub,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.recording.http import Headers, Request

    Redact = Callable[[str], str]

# What tells two requests apart, or a reader what the body is. Everything else is the client's own.
_KEPT_REQUEST_HEADERS = frozenset({"accept", "content-type"})
_DROPPED_RESPONSE_HEADERS = frozenset(
    {
        # who asked
        "openai-organization",
        "openai-project",
        # different on every run
        "age",
        "cf-ray",
        "date",
        "openai-processing-ms",
        "server-timing",
        "x-envoy-upstream-service-time",
        "x-process-time",
    }
)


def _inflated(body: bytes) -> bytes:
    try:
        return zlib.decompress(body, zlib.MAX_WBITS | 32)  # gzip and zlib by their heads
    except zlib.error:
        return body  # it was said to be compressed and is not


def _unbrotlied(body: bytes) -> bytes:
    brotli: Any = import_module("brotli")
    try:
        return bytes(brotli.decompress(body))
    except brotli.error:
        return body


# vcrpy has such a table from 9.0 on.
DECOMPRESSORS: dict[str, Callable[[bytes], bytes]] = {"deflate": _inflated, "gzip": _inflated}
if find_spec("brotli") is not None:
    DECOMPRESSORS["br"] = _unbrotlied

# Shorter bearer tokens are placeholders ("unused", "sk-local"), and words that bodies contain.
_MIN_KEY_LENGTH = 12
_FORM = "application/x-www-form-urlencoded"
# A field of JSON with a text as its value; the quotes have a backslash if the JSON stands in a
# string of other JSON. Bodies may be cut or be events, so that no parser could read all of them.
_FIELD = re.compile(
    r"""(?P<quote>\\?")(?P<name>[\w.-]{3,64})(?P=quote)(?P<colon>\s*:\s*)(?P=quote)"""
    r"""(?P<value>(?:(?!(?P=quote))(?:\\.|[^\\]))+)(?P=quote)""",
    re.DOTALL,
)
_PART = re.compile(
    r"""(name="(?P<name>[^"\r\n]{3,64})"\r\n(?:[^\r\n]+\r\n)*\r\n)(?P<value>[^\r\n]+)"""
)


@dataclass(frozen=True, slots=True)
class Redaction:
    """The one way that texts, bodies and headers are redacted; `hook` is the user's own part.

    The hook must give the same for the same text, and leave its own output as it is: it sees
    recorded requests and, in a replay, the requests that are compared with them.
    """

    hook: Redact | None = None

    def text(self, text: str) -> str:
        """The text without keys, and without what the hook takes out."""
        return scrub(self.hook(text) if self.hook else text)

    def body(self, body: bytes, kind: str = "") -> bytes:
        """The body likewise, and without the fields of keys; `kind` is its media type.

        Bytes that are not UTF-8 pass the hook as surrogate escapes.
        """
        text = body.decode("utf-8", "surrogateescape")
        if kind.lower().startswith(_FORM):
            text = mask_pairs(text, _learn)
        elif kind.lower().startswith("multipart/"):
            text = _PART.sub(_masked_part, text)
        return self.text(_FIELD.sub(_masked_field, text)).encode("utf-8", "surrogateescape")

    def request(self, request: Request, origin: str) -> VcrRequest:
        """A request to `origin` as a cassette keeps it."""
        learn_keys(request.headers)
        path, mark, query = request.target.partition("?")
        target = path + mark + mask_pairs(query, _learn)
        kind = dict(request.headers).get("content-type", "")
        body = self.body(_decoded(request), kind) or None
        kept = {k: self.text(v) for k, v in request.headers if k in _KEPT_REQUEST_HEADERS}
        return VcrRequest(request.method, origin + self.text(target), body, kept)

    def response_headers(self, headers: Headers) -> Headers:
        """The response headers that are kept."""
        return tuple((k, self.text(v)) for k, v in headers if _is_kept(k))


def _is_kept(response_header: str) -> bool:
    known = response_header in _DROPPED_RESPONSE_HEADERS
    return not known and not is_secret_name(response_header, "header")


def learn_keys(headers: Headers) -> None:
    """Register the keys that a request carries, so that an echo of them is redacted too."""
    for name, value in headers:
        if is_secret_name(name, "header"):
            for key in keys_in(name, value):
                _learn(key)


def _learn(key: str) -> None:
    if len(key) >= _MIN_KEY_LENGTH:
        register(key)


def _masked_field(found: re.Match[str]) -> str:
    quote, value = found["quote"], found["value"]
    if is_secret_name(found["name"]):
        _learn(value)
        value = MASK
    else:
        value = _FIELD.sub(_masked_field, value)  # it may be JSON itself, as arguments of tools are
    return f"{quote}{found['name']}{quote}{found['colon']}{quote}{value}{quote}"


def _masked_part(found: re.Match[str]) -> str:
    if not is_secret_name(found["name"], "pair"):
        return found[0]
    _learn(found["value"])
    return found[1] + MASK


def _decoded(request: Request) -> bytes:
    """The body without its Content-Encoding, because a key cannot be seen through gzip."""
    encoding = dict(request.headers).get("content-encoding", "").strip().lower()
    decode = DECOMPRESSORS.get(encoding)
    return decode(request.body) if decode else request.body
