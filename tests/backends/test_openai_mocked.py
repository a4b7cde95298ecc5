"""The openai backend under respx, as users of either SDK generation mock it.

openai 2.x sends through httpx, which plain respx intercepts. 3.x sends through httpx2, which respx
intercepts if pytest-httpx2 is installed. Nothing leaves the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from llmengine import RateLimitError

if TYPE_CHECKING:
    from collections.abc import Iterator

openai = pytest.importorskip("openai")
respx = pytest.importorskip("respx")

URL = "https://api.openai.com/v1"


class City(BaseModel):
    """An answer."""

    name: str


@pytest.fixture
def router() -> Iterator[Any]:
    """A respx router over the HTTP client of the installed SDK."""
    below = "httpcore"
    if int(openai.__version__.partition(".")[0]) >= 3:
        pytest.importorskip("pytest_httpx2")
        below = "httpcore2"
    with respx.mock(using=below, base_url=URL) as mocked:
        yield mocked


def _response(text: str) -> dict[str, Any]:
    message = {"type": "message", "content": [{"type": "output_text", "text": text}]}
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    return {"id": "r", "status": "completed", "model": "m", "output": [message], "usage": usage}


def _completion(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    return {"id": "c", "model": "m", "choices": [choice]}


def test_structured_answer_of_a_mocked_responses_api(router: Any, openai_engine: Any) -> None:
    """The engine talks to a user's mock of OpenAI's address."""
    route = router.post("/responses").respond(json=_response('{"name": "Kiel"}'))

    (output,) = openai_engine(None, api_key="sk-mocked").generate("A city.", output_model=City)

    assert output.parsed == City(name="Kiel")
    assert output.usage.total_tokens == 5
    assert route.calls.last.request.headers["authorization"] == "Bearer sk-mocked"


def test_structured_answer_of_a_mocked_chat_api(router: Any, openai_engine: Any) -> None:
    """The same for chat completions."""
    router.post("/chat/completions").respond(json=_completion('{"name": "Kiel"}'))

    (output,) = openai_engine(None, "chat", api_key="sk-mocked").generate("x", output_model=City)

    assert output.parsed == City(name="Kiel")


def test_mocked_stream_comes_event_by_event(router: Any, openai_engine: Any) -> None:
    """A mocked body of events is read like one from the network."""
    events = (
        'data: {"type": "response.output_text.delta", "output_index": 0, "delta": "Ki"}\n\n'
        'data: {"type": "response.output_text.delta", "output_index": 0, "delta": "el"}\n\n'
        'data: {"type": "response.completed", "response": {"status": "completed"}}\n\n'
    )
    router.post("/responses").respond(text=events, headers={"Content-Type": "text/event-stream"})

    deltas = list(openai_engine(None, api_key="sk-mocked").stream("x"))

    assert [d.text for d in deltas if d.text] == ["Ki", "el"]


def test_mocked_failure_is_retried_by_the_engine(router: Any, openai_engine: Any) -> None:
    """The SDK sends one call per attempt, and the engine decides how many."""
    route = router.post("/responses").respond(429, json={"error": {"message": "slow down"}})

    (result,) = openai_engine(None, api_key="sk-mocked", max_retries=1).results("x")

    assert type(result.error) is RateLimitError
    assert route.call_count == result.attempts == 2
