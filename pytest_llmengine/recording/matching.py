"""When a request is one that was recorded: method, path and query by vcrpy, the body as a value."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from vcr.matchers import method, path, query

if TYPE_CHECKING:
    from vcr.request import Request as VcrRequest

_BOUNDARY = re.compile(r'^multipart/.*boundary="?([^";,]+)', re.IGNORECASE)


def body(asked: VcrRequest, recorded: VcrRequest) -> bool:
    """Same JSON value, whatever the order of keys, the spacing, or ``1`` for ``1.0``.

    Other bodies are the same byte by byte, a multipart boundary aside, which clients draw by lot.
    """
    return _value(asked) == _value(recorded)


MATCHERS = (method, path, query, body)


def pretty(request: VcrRequest) -> str:
    """The body for reading and comparing: JSON indented with sorted keys, other text as it is."""
    text = _value(request)
    if isinstance(text, bytes):
        return text.decode("utf-8", "replace")
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False)


def _value(request: VcrRequest) -> str | bytes:
    content_type = request.headers.get("content-type", "")
    return _canonical(request.body or b"", content_type)


@lru_cache(maxsize=4096)
def _canonical(data: bytes, content_type: str) -> str | bytes:
    """JSON as one text for each value (``true`` is not ``1``, as it is in Python), or bytes."""
    if boundary := _BOUNDARY.match(content_type):
        return data.replace(boundary[1].encode(), b"boundary")
    try:
        return json.dumps(json.loads(data, parse_float=_number), sort_keys=True)
    except (ValueError, RecursionError):
        return data


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value
