"""What a server says of an error: one reading of all the shapes that servers put it in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from llmengine.dialects.quote import quote

_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_MAX_NESTING = 4
_TITLE_WITHIN = 4096  # characters; the search takes quadratic time on a page made for that


@dataclass(frozen=True, slots=True)
class Envelope:
    """The server's own words; all None for a body that says nothing."""

    message: str | None = None
    type: str | None = None
    code: str | None = None


def read_envelope(body: bytes) -> Envelope:
    """The envelope in the body of an error: JSON of any known shape, HTML or plain text."""
    text = body.decode("utf-8", "replace").strip()
    value = _json(text)
    if value is not None:
        return envelope_of(value)
    title = _TITLE.search(text[:_TITLE_WITHIN])
    if title is not None:
        return Envelope(f"an HTML page titled {title.group(1).strip()!r}")
    if text.startswith("<"):
        return Envelope("an HTML page")
    return Envelope(text or None)


def envelope_of(value: Any, depth: int = 0) -> Envelope:
    """The envelope in a decoded JSON value.

    Known are ``{"error": {...}}`` (OpenAI, vLLM, llama.cpp), ``{"error": "..."}`` (Ollama),
    ``{"detail": ...}`` (FastAPI), the fields at the top (SGLang), and a JSON document as the text
    of a message (Ollama passing on what its runner said).
    """
    if not isinstance(value, dict):
        return Envelope(as_text(value) if value else None)
    error = value.get("error")
    if isinstance(error, dict):
        return _fields(error, depth)
    if error:
        return _nested(Envelope(as_text(error), as_text(value.get("error_type"))), depth)
    if value.get("detail"):
        return Envelope(_detail(value["detail"]))
    return _fields(value, depth)


def _fields(error: dict[str, Any], depth: int) -> Envelope:
    message, kind, code = (as_text(error.get(name)) for name in ("message", "type", "code"))
    return _nested(Envelope(message, kind, code), depth)


def _nested(outer: Envelope, depth: int) -> Envelope:
    """The envelope inside the message, if that is a JSON document, else `outer`."""
    inner = _json(outer.message or "")
    if not isinstance(inner, dict) or depth >= _MAX_NESTING:
        return outer
    read = envelope_of(inner, depth + 1)
    return Envelope(read.message or outer.message, read.type or outer.type, read.code or outer.code)


def _detail(detail: Any) -> str:
    if not isinstance(detail, list):
        return as_text(detail) or ""
    return "; ".join(_problem(d) for d in detail)


def _problem(item: Any) -> str:
    if not isinstance(item, dict):
        return as_text(item) or "null"
    place, said = item.get("loc"), as_text(item.get("msg")) or "null"
    parts = place if isinstance(place, list) else [place] if place else []
    return ": ".join(filter(None, [".".join(as_text(p) or "null" for p in parts), said]))


def _json(text: str) -> Any:
    if not text.startswith(("{", "[")):
        return None
    try:
        return from_json(text)
    except ValueError:
        return None


def as_text(value: Any) -> str | None:
    """Text as it is, anything else as short JSON, None for null."""
    return value if value is None or isinstance(value, str) else quote(to_json(value))
