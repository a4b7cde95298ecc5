"""An Ollama that reads only the end of a long prompt, as versions without ``truncate`` do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llmengine import ContextLengthError, EngineConfig
from llmengine.mock import Behaviour, MockServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock import ReceivedRequest
    from llmengine.mock.behaviour import JSON

LONG = "word " * 400
_READ = 100


def _cut(body: JSON, call: ReceivedRequest) -> JSON:
    """The counts of a server that read the last tokens of its prompt."""
    if "prompt_eval_count" in body:
        body["prompt_eval_count"] = min(body["prompt_eval_count"], _READ)
    if usage := body.get("usage"):
        usage["prompt_tokens"] = min(usage["prompt_tokens"], _READ)
    return body


def _cut_events(events: list[JSON], call: ReceivedRequest) -> list[JSON]:
    return [_cut(event, call) for event in events]


@pytest.fixture(scope="module")
def cutting() -> Iterator[MockServer]:
    """A server that answers with status 200 to the part of the prompt that it kept."""
    with MockServer(behaviour=Behaviour("cutting", reply=_cut, events=_cut_events)) as server:
        yield server


@pytest.fixture(params=["", "/v1"], ids=["native", "v1"])
def config(request: pytest.FixtureRequest, cutting: MockServer) -> EngineConfig:
    """An engine for that server, by either API of Ollama."""
    return EngineConfig(
        backend="ollama_api", model="mock", endpoint=cutting.root_url + request.param
    )


def test_a_cut_prompt_is_an_error(config: EngineConfig) -> None:
    """The error keeps the answer, and the prompt is not sent again."""
    (result,) = config.engine.results(LONG)

    assert isinstance(result.error, ContextLengthError)
    assert "100 tokens were read" in str(result.error)
    assert result.error.partial.outputs[0].text
    assert result.attempts == 1


def test_a_cut_prompt_ends_a_stream_in_an_error(config: EngineConfig) -> None:
    """The error comes at the end of the stream, with the token count."""
    with pytest.raises(ContextLengthError, match="400 words"):
        list(config.engine.stream([{"role": "user", "content": [{"type": "text", "text": LONG}]}]))


def test_cut_is_an_answer_with_truncate(config: EngineConfig) -> None:
    """With ``truncate: true`` the caller accepts the cut."""
    (output,) = config.engine.generate(LONG, extra_body={"truncate": True})

    assert output.outputs[0].text


def test_a_whole_prompt_is_answered(config: EngineConfig) -> None:
    """A prompt that fits is not an error."""
    (output,) = config.engine.generate("word " * 50)

    assert output.outputs[0].text
