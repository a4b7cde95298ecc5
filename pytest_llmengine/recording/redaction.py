"""What is taken out of an exchange before it is kept: nothing else ever reaches the disk.

Request headers are kept by name (a short list), response headers dropped by name. In bodies, URLs
and the headers that are kept, every registered key is replaced by its value, and so is every key
that a request carried in its headers.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from vcr.filters import replace_query_parameters
from vcr.request import Request as VcrRequest

from llmengine.values.secrets import MASK, register, scrub

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.recording.wire import Headers, Request

    Redact = Callable[[str], str]

# What tells two requests apart, or a reader what the body is. Everything else is the client's own.
_KEPT_REQUEST_HEADERS = frozenset({"accept", "content-type"})
_CREDENTIAL_HEADERS = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key"})
_CREDENTIAL_PARAMETERS = ("access_token", "api-key", "api_key", "key", "sig", "token")
_DROPPED_RESPONSE_HEADERS = frozenset(
    {
        # who asked
        "openai-organization",
        "openai-project",
        "set-cookie",
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

    def body(self, body: bytes) -> bytes:
        """The body likewise; bytes that are not UTF-8 pass the hook as surrogate escapes."""
        return self.text(body.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    def request(self, request: Request, origin: str) -> VcrRequest:
        """A request to `origin` as a cassette keeps it."""
        learn_keys(request.headers)
        kept = {k: self.text(v) for k, v in request.headers if k in _KEPT_REQUEST_HEADERS}
        body = self.body(_decoded(request)) or None
        redacted = VcrRequest(request.method, origin + self.text(request.target), body, kept)
        names = {name for name, _ in parse_qsl(redacted.parsed_uri.query)}
        if names.intersection(_CREDENTIAL_PARAMETERS):
            replace_query_parameters(redacted, [(n, MASK) for n in _CREDENTIAL_PARAMETERS])
        return redacted

    def response_headers(self, headers: Headers) -> Headers:
        """The response headers that are kept."""
        return tuple((k, self.text(v)) for k, v in headers if k not in _DROPPED_RESPONSE_HEADERS)


def learn_keys(headers: Headers) -> None:
    """Register the keys that a request carries, so that an echo of them is redacted too."""
    for name, value in headers:
        if name in _CREDENTIAL_HEADERS:
            key = value.rsplit(" ", 1)[-1]
            if len(key) >= _MIN_KEY_LENGTH:
                register(key)


def _decoded(request: Request) -> bytes:
    """The body without its Content-Encoding, because a key cannot be seen through gzip."""
    encoding = dict(request.headers).get("content-encoding", "").strip().lower()
    decode = DECOMPRESSORS.get(encoding)
    return decode(request.body) if decode else request.body
