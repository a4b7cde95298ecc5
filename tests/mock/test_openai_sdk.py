"""The official SDK works with the mock as with OpenAI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import openai
import pytest
from pydantic import BaseModel

from llmengine.mock import Fault, MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Person(BaseModel):
    """The type of the structured answers."""

    name: str
    kind: Literal["cat", "dog"]
    friends: list[Person]


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    """A server with a key."""
    with MockServer(api_key="secret-key") as server:
        yield server


@pytest.fixture(scope="module")
def client(server: MockServer) -> Iterator[openai.OpenAI]:
    """The SDK's client for the server."""
    with openai.OpenAI(base_url=server.base_url, api_key="secret-key", max_retries=0) as client:
        yield client


def test_chat(client: openai.OpenAI) -> None:
    """A chat completion is typed and has the request's id."""
    answer = client.chat.completions.create(model="mock", messages=USER)

    assert answer.choices[0].message.content
    assert answer.usage.total_tokens > 0
    assert answer._request_id.startswith("req_")


def test_chat_stream(client: openai.OpenAI) -> None:
    """The SDK joins the stream to the whole answer."""
    whole = client.chat.completions.create(model="mock", messages=USER)
    with client.chat.completions.stream(
        model="mock", messages=USER, stream_options={"include_usage": True}
    ) as stream:
        final = stream.get_final_completion()

    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.usage == whole.usage


def test_chat_parse(client: openai.OpenAI) -> None:
    """A recursive pydantic model is parsed."""
    answer = client.chat.completions.parse(model="mock", messages=USER, response_format=Person)

    assert answer.choices[0].message.parsed.name == "Paris"


def test_streamed_tool_call(client: openai.OpenAI) -> None:
    """The SDK joins and parses the parts of a call."""
    with client.chat.completions.stream(model="mock", messages=USER, tools=[TOOL]) as stream:
        final = stream.get_final_completion()

    (call,) = final.choices[0].message.tool_calls
    assert call.function.parsed_arguments == {"city": "Paris"}
    assert final.choices[0].finish_reason == "tool_calls"


def test_responses(client: openai.OpenAI) -> None:
    """A response has its text, is stored, and can be deleted."""
    answer = client.responses.create(model="mock", input="Tell me.")

    assert answer.output_text
    assert client.responses.retrieve(answer.id).output_text == answer.output_text
    client.responses.delete(answer.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


def test_responses_stream(client: openai.OpenAI) -> None:
    """The SDK joins the events to the final response."""
    with client.responses.stream(model="mock", input="Tell me.") as stream:
        deltas = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        final = stream.get_final_response()

    assert deltas == final.output_text != ""


def test_responses_parse(client: openai.OpenAI) -> None:
    """A pydantic model is parsed from a response."""
    answer = client.responses.parse(model="mock", input="About Ludmila", text_format=Person)

    assert answer.output_parsed.name == "Ludmila"


def test_embeddings(client: openai.OpenAI) -> None:
    """The SDK asks for base64 by default, and gets the same values as with float."""
    plain = client.embeddings.create(model="mock", input="x", encoding_format="float")
    encoded = client.embeddings.create(model="mock", input="x")

    assert encoded.data[0].embedding == pytest.approx(plain.data[0].embedding)


def test_completions_and_models(client: openai.OpenAI) -> None:
    """The legacy route and the list of models are typed too."""
    (model,) = client.models.list().data
    chunks = list(client.completions.create(model=model.id, prompt="x", stream=True))

    assert client.models.retrieve(model.id) == model
    assert "".join(c.choices[0].text for c in chunks)


def test_errors_are_the_sdks(server: MockServer, client: openai.OpenAI) -> None:
    """Each refusal raises the SDK's own class for it, with code and param."""
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nope", messages=USER)
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="mock", messages=USER, temperature=3)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong-key").models.list()
    server.play(Script(faults=[Fault(status=429, retry_after=0)]))
    with pytest.raises(openai.RateLimitError) as limited:
        client.models.list()

    assert unknown.value.code == "model_not_found"
    assert wrong.value.param == "temperature"
    assert limited.value.code == "rate_limit_exceeded"
    assert limited.value.response.headers["retry-after"] == "0"


def test_retries_reach_the_answer(server: MockServer, client: openai.OpenAI) -> None:
    """The SDK's own retries succeed after faults."""
    server.play(Script(replies=["at last"], faults=[Fault(status=503, retry_after=0.01)] * 2))
    patient = client.with_options(max_retries=2)

    answer = patient.chat.completions.create(model="mock", messages=USER)
    assert answer.choices[0].message.content == "at last"
