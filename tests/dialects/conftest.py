"""Recorded exchanges with real servers, and requests for reading them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import SamplingParams
from llmengine.types.request import ChatRequest

if TYPE_CHECKING:
    from collections.abc import Callable

_SAMPLES = Path(__file__).parents[1] / "samples"


@dataclass(frozen=True, slots=True)
class Sample:
    """A recorded answer: its status and the bytes of its body."""

    status: int
    body: bytes


@pytest.fixture
def sample() -> Callable[[str], Sample]:
    """Reads a recorded answer by its path under ``tests/samples``."""
    return _read


def _read(name: str) -> Sample:
    path = _SAMPLES / name
    if path.suffix != ".json":
        return Sample(200, path.read_bytes())
    response = json.loads(path.read_text(encoding="utf-8"))["response"]
    text = response.get("body_raw") or response.get("text")
    if text is None and "json" in response:
        text = json.dumps(response["json"])
    return Sample(response["status"], (text or "").encode())


@pytest.fixture
def chat() -> Callable[..., ChatRequest]:
    """Makes a request; sampling parameters are given by their names."""
    return _chat


def _chat(
    messages: Any = ({"role": "user", "content": "Hi"},),
    *,
    stream: bool = False,
    response_format: Any = None,
    tools: Any = (),
    tool_choice: Any = None,
    reasoning: Any = None,
    extra_body: Any = None,
    **sampling: Any,
) -> ChatRequest:
    return ChatRequest(
        model="m",
        prompt="Hi",
        messages=tuple(messages),
        sampling=SamplingParams(**sampling),
        stream=stream,
        response_format=response_format,
        tools=tools,
        tool_choice=tool_choice,
        reasoning=reasoning,
        extra_body=extra_body or {},
        request_id="ours-1",
    )
