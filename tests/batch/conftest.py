"""Batches of prompts that a mock server repeats, so that every answer tells whose it is."""

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
    """Lines of batches: made, read, and found again in what a server saw."""

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

    def asked(self, *servers: Any) -> Counter[str]:
        """How often each request was asked, by all servers together."""
        return Counter(self.name(call) for server in servers for call in server.calls)


@pytest.fixture
def kit() -> Kit:
    """Lines of batches."""
    return Kit()


@pytest.fixture
def server() -> Iterator[MockServer]:
    """A mock server of this test alone."""
    with MockServer() as server:
        yield server


@pytest.fixture
def engine_at() -> Callable[..., Engine]:
    """Makes an engine aimed at an address, with short waits between attempts."""

    def make(url: str, **fields: Any) -> Engine:
        settings = {"backend": "openai_compatible", "model": "mock", "retry_wait": 0.001}
        return EngineConfig(**{**settings, "endpoint": url, **fields}).engine

    return make


@pytest.fixture
def engine(server: MockServer, engine_at: Callable[..., Engine]) -> Engine:
    """An engine aimed at the server."""
    return engine_at(server.root_url)


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Path]:
    """Writes an input: a mapping becomes a line, bytes are a line as they are."""

    def write(*lines: Any) -> Path:
        path = tmp_path / "in.jsonl"
        raw = [li if isinstance(li, bytes) else json.dumps(li).encode() for li in lines]
        path.write_bytes(b"".join(li + b"\n" for li in raw))
        return path

    return write


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where the output goes."""
    return tmp_path / "out.jsonl"
