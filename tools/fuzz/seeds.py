"""Answers of real servers, from the recordings in this repository."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
# A recording has a hundred answers of one kind; these checks have one of every kind.
_CASSETTES = (
    *("chat.stream*", "chat.n.*", "chat.logprobs*", "tools.*", "resp.*", "think.*"),
    "messages.*",
)
_ROUTES = {
    "/chat/completions": "openai chat",
    "/responses": "openai responses",
    "/v1/messages": "anthropic messages",
    "/api/chat": "ollama chat",
}


@dataclass(frozen=True)
class Answer:
    """One answer: its source, the dialect that decodes it, and its body."""

    source: str
    dialect: str
    is_streamed: bool
    body: bytes


@lru_cache(maxsize=1)
def real_answers() -> tuple[Answer, ...]:
    """Every recorded answer with status 200, each body once."""
    found = {answer.body: answer for answer in (*_samples(), *_cassettes())}
    return tuple(found.values())


def _samples() -> Iterator[Answer]:
    for path in sorted((_ROOT / "tests" / "samples").rglob("*")):
        if path.suffix == ".ndjson":
            yield Answer(path.name, "ollama chat", is_streamed=True, body=path.read_bytes())
        elif path.suffix == ".sse":
            yield Answer(path.name, "openai chat", is_streamed=True, body=path.read_bytes())
        elif path.suffix == ".json":
            recorded = json.loads(path.read_text("utf-8"))
            response, url = recorded["response"], str(recorded.get("request"))
            text = response.get("body_raw") or response.get("text")
            if text is None and "json" in response:
                text = json.dumps(response["json"])
            if response["status"] == 200 and text:  # noqa: PLR2004 - the one success
                yield from _answer(path.name, url, text)


def _cassettes() -> Iterator[Answer]:
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for pattern in _CASSETTES:
        for path in sorted((_ROOT / "cassettes").rglob(f"{pattern}.yaml")):
            recorded = yaml.load(path.read_bytes(), loader)  # noqa: S506 - a safe loader
            for exchange in recorded["interactions"]:
                response = exchange["response"]
                text = response["body"].get("string")
                if response["status"]["code"] == 200 and text:  # noqa: PLR2004 - as above
                    yield from _answer(path.name, exchange["request"]["uri"], text)


def _answer(source: str, url: str, text: str | bytes) -> Iterator[Answer]:
    body = text if isinstance(text, bytes) else text.encode()
    for route, dialect in _ROUTES.items():
        if route in url:
            is_streamed = body.startswith((b"data:", b"event:", b":")) or b"}\n{" in body
            yield Answer(source, dialect, is_streamed, body)
