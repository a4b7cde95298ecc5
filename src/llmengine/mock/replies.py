"""What a route answers, before it is put into bytes."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON


class Framing(Enum):
    """How the objects of a stream are put on the wire."""

    SSE = "server-sent events, [DONE] at the end"
    NAMED_SSE = "server-sent events with their type as name"
    NDJSON = "one JSON object a line"


@dataclass(frozen=True, slots=True)
class Whole:
    """One JSON object."""

    body: JSON


@dataclass(frozen=True, slots=True)
class Plain:
    """A body that is no JSON."""

    text: str


@dataclass(frozen=True, slots=True)
class Stream:
    """JSON objects in order."""

    objects: list[JSON]
    framing: Framing = Framing.SSE


Answer = Whole | Plain | Stream


def new_id(prefix: str) -> str:
    """An id that was never given before."""
    return f"{prefix}{uuid.uuid4().hex}"


def encode(value: object) -> bytes:
    """A JSON value as UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
