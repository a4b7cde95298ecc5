"""Transcripts of exchanges in every format that the mock speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llmengine.mock import MockServer
from pytest_llmengine.recording import RecordServer
from pytest_llmengine.recording.cassette_file import CassetteFile
from pytest_llmengine.recording.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    TranscriptOf = Callable[[str, dict[str, Any]], Transcript]

_ASKED = [{"role": "user", "content": "Weather in Oslo?"}]
_SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Oslo"]}}, "required": ["city"]}
_FUNCTION = {"name": "weather", "description": "d", "parameters": _SCHEMA}
_HEADERS = {"anthropic-version": "2023-06-01"}
_CHAT = {
    "model": "mock",
    "messages": _ASKED,
    "tools": [{"type": "function", "function": _FUNCTION}],
    "tool_choice": "required",
}
_MESSAGES = {
    "model": "mock",
    "max_tokens": 50,
    "messages": _ASKED,
    "tools": [{"name": "weather", "input_schema": _SCHEMA}],
    "tool_choice": {"type": "any"},
}
_RESPONSES = {
    "model": "mock",
    "input": _ASKED,
    "tools": [{"type": "function", **_FUNCTION}],
    "tool_choice": "required",
}


@pytest.fixture(scope="module")
def transcript_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TranscriptOf]:
    """Records one exchange with the mock, and reads its transcript."""
    path = tmp_path_factory.mktemp("cassettes") / "one.yaml"
    with (
        MockServer() as server,
        RecordServer(server.root_url) as recorder,
        httpx.Client(base_url=recorder.root_url, headers=_HEADERS, trust_env=False) as client,
    ):

        def record(route: str, body: dict[str, Any]) -> Transcript:
            with recorder.cassette(path):
                client.post(route, json=body)
            return Transcript.of(CassetteFile.read(path).exchanges[0])

        yield record


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/v1/chat/completions", _CHAT),
        ("/v1/responses", _RESPONSES),
        ("/v1/messages", _MESSAGES),
        ("/api/chat", {"model": "mock", "messages": _ASKED, "tools": _CHAT["tools"]}),
    ],
    ids=["chat", "responses", "messages", "ollama"],
)
def test_calls_of_tools(
    route: str, body: dict[str, Any], streamed: bool, transcript_of: TranscriptOf
) -> None:
    """Whole or streamed, a transcript has the question, the call, the end and the tokens."""
    with_usage = streamed and route == "/v1/chat/completions"
    extra = {"stream_options": {"include_usage": True}} if with_usage else {}
    found = transcript_of(route, body | extra | {"stream": streamed})

    assert [(turn.role, turn.text) for turn in found.turns] == [("user", "Weather in Oslo?")]
    assert (found.tools, found.status, found.streamed) == (("weather",), 200, streamed)
    (call,) = found.parts
    assert (call.kind, call.name) == ("tool_call", "weather")
    assert call.text.replace(" ", "") == '{"city":"Oslo"}'
    assert len(found.finish_reasons) == 1
    assert (found.tokens_in or 0) > 0
    assert (found.tokens_out or 0) > 0
    assert (found.timing.first_content is not None) == streamed


def test_embeddings_and_errors(transcript_of: TranscriptOf) -> None:
    """A vector is its size, and an error its type and message."""
    vectors = transcript_of("/v1/embeddings", {"model": "mock", "input": ["a", "b"]})
    refused = transcript_of("/v1/chat/completions", {"model": "mock"})

    assert [part.kind for part in vectors.parts] == ["embedding"] * 2
    (error,) = refused.parts
    assert (refused.status, error.kind) == (400, "error")
    assert "messages" in error.text
