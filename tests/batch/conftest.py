"""Batches of prompts that a mock server repeats, so that an answer shows its own request."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import EngineConfig
from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from llmengine import Engine

URL = "/v1/chat/completions"


class Kit:
    """Helpers that make and read the lines of batches, and find them in a server's calls."""

    @staticmethod
    def request(name: str, **changes: Any) -> dict[str, Any]:
        """A line of the input whose answer is its own custom_id."""
        body = {"model": "mock", "messages": [{"role": "user", "content": f"Repeat this: {name}"}]}
        return {"custom_id": name, "method": "POST", "url": URL, "body": body} | changes

    @staticmethod
    def name(call: Any) -> str:
        """The custom_id of the request behind a call that a server saw."""
        return str(call.json["messages"][0]["content"]).removeprefix("Repeat this: ")

    @staticmethod
    def text(line: Any) -> str:
        """The text of an answered line."""
        return str(line["response"]["body"]["choices"][0]["message"]["content"])

    @staticmethod
    def read(path: Path) -> list[dict[str, Any]]:
        """The lines of a file."""
        return [json.loads(line) for line in path.read_bytes().splitlines()]

    def sent(self, *servers: Any) -> Counter[str]:
        """How often each request was sent, to all servers together."""
        return Counter(self.name(call) for server in servers for call in server.calls)


@pytest.fixture
def kit() -> Kit:
    """The helpers for lines of batches."""
    return Kit()


@pytest.fixture
def server() -> Iterator[MockServer]:
    """A mock server."""
    with MockServer() as server:
        yield server


@pytest.fixture
def engine_at() -> Callable[..., Engine]:
    """A function that makes an engine for an address, with short waits between attempts."""

    def make(url: str, **fields: Any) -> Engine:
        settings = {"backend": "openai_compatible", "model": "mock", "retry_wait": 0.001}
        return EngineConfig(**{**settings, "endpoint": url, **fields}).engine

    return make


@pytest.fixture
def engine(server: MockServer, engine_at: Callable[..., Engine]) -> Engine:
    """An engine for the server."""
    return engine_at(server.root_url)


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes an input: a mapping becomes a line, bytes are written unchanged."""

    def write(*lines: Any) -> Path:
        path = tmp_path / "in.jsonl"
        raw = [li if isinstance(li, bytes) else json.dumps(li).encode() for li in lines]
        path.write_bytes(b"".join(li + b"\n" for li in raw))
        return path

    return write


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The path of the output."""
    return tmp_path / "out.jsonl"
