"""Workers, which turn a prompt into a text."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    AuthenticationError,
    EngineConfig,
    LLMWorker,
    OpenAICompatibleWorker,
    StructuredOutputError,
    TruncatedError,
)
from llmengine.mock import MockServer, Script
from llmengine.worker import EngineWorker

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.usefixtures("clean_folder")


@pytest.fixture
def mock() -> Iterator[MockServer]:
    """A mock server."""
    with MockServer(model="qwen") as server:
        yield server


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_request_is_the_documents(mock: MockServer, path: str) -> None:
    """Model, both prompts, temperature and token limit go to /v1/chat/completions."""
    mock.play(Script(replies=["Paris"]))
    worker = OpenAICompatibleWorker(mock.root_url + path, "qwen", timeout=5)

    answer = worker.generate("Capital of France?", "Be brief.", temperature=0.3, max_tokens=7)

    assert answer == "Paris"
    (call,) = mock.calls
    assert call.path == "/v1/chat/completions"
    assert call.json == {
        "model": "qwen",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Capital of France?"},
        ],
        "temperature": 0.3,
        "max_tokens": 7,
    }
    assert worker.engine.config.timeout.total == 5


def test_defaults_are_the_documents(mock: MockServer) -> None:
    """Defaults: no system prompt, temperature 0.1, 1000 tokens, 60 s, plain text."""
    worker = OpenAICompatibleWorker(mock.root_url, "qwen")

    worker.generate("Hello")

    (call,) = mock.calls
    assert call.json == {
        "model": "qwen",
        "messages": [{"role": "user", "content": "Hello"}],
        "temperature": 0.1,
        "max_tokens": 1000,
    }
    assert worker.engine.config.timeout.total == 60
    assert (worker.api_url, worker.model_name) == (mock.root_url, "qwen")


def test_json_mode_on_either_route(mock: MockServer) -> None:
    """Both routes ask for JSON in their own format, and the answer is JSON."""
    native = EngineConfig(backend="ollama_api", model="qwen", endpoint=mock.root_url).engine
    workers: list[LLMWorker] = [
        OpenAICompatibleWorker(mock.root_url, "qwen"),
        EngineWorker(native),
    ]

    for worker in workers:
        assert isinstance(json.loads(worker.generate("JSON, please.", json_mode=True)), dict)

    openai, ollama = mock.calls
    assert openai.json["response_format"] == {"type": "json_object"}
    assert (ollama.path, ollama.json["format"]) == ("/api/chat", "json")


@pytest.mark.parametrize("text", ["Sure! {}", "[1]", "", '{"a": NaN}', '{"a": 1'])
def test_answer_that_is_not_a_json_object_is_an_error(
    raw_server: Any, chat: Any, text: str
) -> None:
    """A server that ignores JSON mode causes an error, which holds the answer."""
    server = raw_server(lambda _, c: c.reply(chat(text)))
    worker = OpenAICompatibleWorker(server.url, "m")

    with pytest.raises(StructuredOutputError) as caught:
        worker.generate("JSON, please.", json_mode=True)

    assert not isinstance(caught.value, TruncatedError)
    assert caught.value.partial is not None
    assert caught.value.partial.outputs[0].text == text
    assert worker.generate("Just a text.") == text


def test_json_that_was_cut_has_its_own_error(raw_server: Any, chat: Any) -> None:
    """The error for a cut answer advises more tokens."""
    server = raw_server(lambda _, c: c.reply(chat('{"a": [1, 2', finish_reason="length")))

    with pytest.raises(TruncatedError, match="raise max_tokens"):
        OpenAICompatibleWorker(server.url, "m").generate("JSON", json_mode=True)


def test_text_that_was_cut_is_logged(mock: MockServer, caplog: pytest.LogCaptureFixture) -> None:
    """A warning in the log says that the answer was cut."""
    worker = OpenAICompatibleWorker(mock.root_url, "qwen", name="w")

    with caplog.at_level(logging.WARNING, "llmengine"):
        worker.generate("Tell me all.", max_tokens=3)

    assert "w: the answer was cut at 3 tokens" in caplog.text


def test_errors_are_the_librarys(raw_server: Any) -> None:
    """A failed call raises the error of its prompt, not of a batch, and returns no text."""
    server = raw_server(lambda _, c: c.reply({"error": {"message": "no"}}, status=401))

    with pytest.raises(AuthenticationError):
        OpenAICompatibleWorker(server.url, "m", api_key="wrong-key").generate("hi")

    assert server.requests[0].headers["authorization"] == "Bearer wrong-key"


def test_anything_that_generates_is_a_worker() -> None:
    """LLMWorker is a protocol, for wrappers that take any worker."""

    class Shout:
        def generate(
            self,
            prompt: str,
            system_prompt: str | None = None,
            temperature: float = 0.1,
            max_tokens: int = 1000,
            json_mode: bool = False,
        ) -> str:
            return prompt.upper()

    def ask(worker: LLMWorker) -> str:
        return worker.generate("hi")

    assert ask(Shout()) == "HI"
