"""Recordings of Anthropic's Messages API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine import EngineConfig, SamplingParams
from llmengine.mock import MockServer
from pytest_llmengine.recording import RecordServer, ReplayServer

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine import Engine

KEY = "sk-ant-a-key-of-a-recording"


def _engine(url: str, key: str | None = None) -> Engine:
    config = {"backend": "anthropic_compatible", "model": "mock", "endpoint": url, "api_key": key}
    return EngineConfig(**config).engine


def test_stream_is_replayed_with_its_names_and_without_the_key(path: Path) -> None:
    """The events keep their names and pings, and no header with the key is in the file."""
    sampling = SamplingParams(temperature=0, max_tokens=8)
    with (
        MockServer(api_key=KEY) as server,
        RecordServer(server.root_url) as recorder,
        recorder.cassette(path),
    ):
        live = list(_engine(recorder.root_url, KEY).stream("Say hello.", sampling))
    with ReplayServer() as player, player.cassette(path):
        played = list(_engine(player.root_url).stream("Say hello.", sampling))

    text = path.read_text("utf-8")
    assert played == live
    assert text.count("event: content_block_delta") == 8
    assert "event: ping" in text
    assert KEY not in text
    assert "x-api-key" not in text.lower()
