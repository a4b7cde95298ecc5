"""A mock server, engines for it, and readers for the files of a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import EngineConfig
from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def server() -> Iterator[MockServer]:
    """A mock server."""
    with MockServer() as running:
        yield running


@pytest.fixture
def engines(server: MockServer) -> dict[str, EngineConfig]:
    """One engine, ``main``, that sends one record at a time to the mock server."""
    config = EngineConfig(
        name="main",
        backend="openai_compatible",
        model="mock",
        endpoint=server.root_url,
        max_concurrency=1,
        max_retries=2,
        structured="json_schema",  # no probe: scripted replies are for the steps
    )
    return {"main": config}


@pytest.fixture
def sent_prompts(server: MockServer) -> Callable[[], list[str]]:
    """The user prompts that the server saw, in order."""
    return lambda: [call.json["messages"][-1]["content"] for call in server.calls]


@pytest.fixture
def lines() -> Callable[[Path], list[Any]]:
    """The values of a file of JSON lines."""
    return lambda path: [json.loads(line) for line in path.read_text("utf-8").splitlines()]
