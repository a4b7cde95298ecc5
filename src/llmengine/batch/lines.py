"""One line of a batch's input: a request, or what is wrong with it.

The format is OpenAI's: ``{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
"body": {...}}``, as ``vllm run-batch`` and Together read it too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmengine.types.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_ID = 64

# Each route that can be asked, and the list without which an answer of it is none.
ROUTES = {
    "/v1/chat/completions": "choices",
    "/v1/completions": "choices",
    "/v1/embeddings": "data",
    "/v1/responses": "output",
}


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One request; ``line`` is its place in the input, from 1."""

    line: int
    custom_id: str
    url: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be asked; ``custom_id`` is None where it has none."""

    line: int
    custom_id: str | None
    problem: str


Entry = BatchRequest | BadLine


def read_entry(raw: bytes | Mapping[str, Any], line: int) -> Entry:
    """The entry in one line, or in a mapping that was one.

    Raises InvalidRequestError for a ``custom_id`` that no batch service takes, as the answer to
    it could not be told from others.
    """
    try:
        value = _decoded(raw)
    except (ValueError, TypeError, RecursionError) as error:
        return BadLine(line, None, f"not JSON: {error}")
    if not isinstance(value, dict):
        return BadLine(line, None, "not a JSON object")
    custom_id = value.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        return BadLine(line, None, "custom_id is missing, or is no string")
    if len(custom_id) > LONGEST_ID:
        raise InvalidRequestError(
            f"line {line}: custom_id {custom_id!r} has {len(custom_id)} characters; "
            f"at most {LONGEST_ID} are allowed"
        )
    problem = _problem(value)
    if problem is not None:
        return BadLine(line, custom_id, problem)
    return BatchRequest(line, custom_id, value["url"], value["body"])


def _decoded(raw: bytes | Mapping[str, Any]) -> Any:
    if not isinstance(raw, bytes):
        raw = json.dumps(raw, allow_nan=False).encode()
    return json.loads(raw, parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    msg = f"{name} is no JSON number"
    raise ValueError(msg)


def _problem(value: dict[str, Any]) -> str | None:
    url, body = value.get("url"), value.get("body")
    if value.get("method") != "POST":
        return f"method is {value.get('method')!r}; a request is a 'POST'"
    if not isinstance(url, str) or url not in ROUTES:
        return f"url is {url!r}; known are {', '.join(ROUTES)}"
    if not isinstance(body, dict):
        return "body is missing, or is no JSON object"
    if body.get("stream"):
        return "body.stream is set; a batch has no streams: leave it out"
    return None
