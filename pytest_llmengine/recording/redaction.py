"""Removes secrets from an exchange before it is kept, so that they are never written to disk.

Request headers are kept only if they are on a short list. Response headers are kept unless they are
on another list or have the name of a key. In bodies, URLs and kept headers, the value of every
registered key is replaced, and so is every key that a request carried in its headers. Values under
a key's name in a query, a form or a JSON body are removed too; `llmengine.types.secrets` says which
names these are.
"""

from __future__ import annotations

import json
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
from pytest_llmengine.recording.json_path import masked

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.recording.config import RecordingConfig, Redact
    from pytest_llmengine.recording.http import Headers, Request
    from pytest_llmengine.recording.json_path import JSONPath

# Headers that distinguish requests or describe the body. All others depend on the client.
_KEPT_REQUEST_HEADERS = frozenset({"accept", "content-type"})
_DROPPED_RESPONSE_HEADERS = frozenset(
    {
        # identify the account
        "openai-organization",
        "openai-project",
        # differ in every run
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
        return zlib.decompress(body, zlib.MAX_WBITS | 32)  # detects gzip and zlib by their headers
    except zlib.error:
        return body  # the body is not compressed, although its header says so


def _brotli_decompressed(body: bytes) -> bytes:
    brotli: Any = import_module("brotli")
    try:
        return bytes(brotli.decompress(body))
    except brotli.error:
        return body


# vcrpy 9.0 and later have a table like this.
DECOMPRESSORS: dict[str, Callable[[bytes], bytes]] = {"deflate": _inflated, "gzip": _inflated}
if find_spec("brotli") is not None:
    DECOMPRESSORS["br"] = _brotli_decompressed

# Shorter bearer tokens are placeholders ("unused", "sk-local") that may be words in bodies.
_MIN_KEY_LENGTH = 12
_FORM = "application/x-www-form-urlencoded"
# A JSON field whose value is a string. The quotes have a backslash if the JSON is inside a string
# of other JSON. A regular expression is used because bodies may be cut or be events, which a JSON
# parser cannot read.
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
    """Redacts texts, bodies and headers; a project adds functions, header names and JSON paths.

    The functions must return the same output for the same text and must not change their own
    output: they are called for recorded requests and, in a replay, for the requests that are
    compared with them.
    """

    functions: tuple[Redact, ...] = ()
    headers: frozenset[str] = frozenset()
    paths: tuple[JSONPath, ...] = ()

    @classmethod
    def of(cls, config: RecordingConfig) -> Redaction:
        """The redaction of a configuration."""
        return cls(config.redact, frozenset(config.redact_headers), config.redact_paths)

    def text(self, text: str) -> str:
        """The text without keys and without everything that the functions remove."""
        for function in self.functions:
            text = function(text)
        return scrub(text)

    def body(self, body: bytes, kind: str = "") -> bytes:
        """The redacted body, also without fields of keys; `kind` is its media type.

        Bytes that are not UTF-8 are passed to the functions as surrogate escapes.
        """
        text = body.decode("utf-8", "surrogateescape")
        if kind.lower().startswith(_FORM):
            text = mask_pairs(text, _learn)
        elif kind.lower().startswith("multipart/"):
            text = _PART.sub(_masked_part, text)
        text = masked(text, self.paths, json.dumps(MASK))
        return self.text(_FIELD.sub(_masked_field, text)).encode("utf-8", "surrogateescape")

    def request(self, request: Request, origin: str) -> VcrRequest:
        """The request to `origin` in the form that a cassette keeps."""
        self._learn_keys(request.headers)
        path, mark, query = request.target.partition("?")
        target = path + mark + mask_pairs(query, _learn)
        kind = dict(request.headers).get("content-type", "")
        body = self.body(_decoded(request), kind) or None
        names = _KEPT_REQUEST_HEADERS - self.headers
        headers = {k: self.text(v) for k, v in request.headers if k in names}
        return VcrRequest(request.method, origin + self.text(target), body, headers)

    def response_headers(self, headers: Headers) -> Headers:
        """The redacted response headers, without those that are dropped."""
        return tuple((k, self.text(v)) for k, v in headers if not self._drops(k))

    def _drops(self, response_header: str) -> bool:
        dropped = _DROPPED_RESPONSE_HEADERS | self.headers
        return response_header in dropped or is_secret_name(response_header, "header")

    def _learn_keys(self, headers: Headers) -> None:
        """Register the keys in a request's headers, so that they are redacted in answers too."""
        for name, value in headers:
            if name in self.headers:
                _learn(value)
            elif is_secret_name(name, "header"):
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
        value = _FIELD.sub(_masked_field, value)  # it may be JSON itself, as in tool calls
    return f"{quote}{found['name']}{quote}{found['colon']}{quote}{value}{quote}"


def _masked_part(found: re.Match[str]) -> str:
    if not is_secret_name(found["name"], "pair"):
        return found[0]
    _learn(found["value"])
    return found[1] + MASK


def _decoded(request: Request) -> bytes:
    """The decompressed body, because keys cannot be found in compressed data."""
    encoding = dict(request.headers).get("content-encoding", "").strip().lower()
    decode = DECOMPRESSORS.get(encoding)
    return decode(request.body) if decode else request.body
