"""Anthropic's SDK works with the mock as with Anthropic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from llmengine.mock import Fault, MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Iterator

anthropic = pytest.importorskip("anthropic", reason="pip install anthropic, or: nox -s clients")

USER = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOL = {
    "name": "get_weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


class Person(BaseModel):
    """The type of the structured answers."""

    name: str
    age: int


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    """A server with a key."""
    with MockServer(api_key="secret-key") as server:
        yield server


@pytest.fixture(scope="module")
def client(server: MockServer) -> Iterator[Any]:
    """The SDK's client for the server."""
    with anthropic.Anthropic(
        base_url=server.root_url, api_key="secret-key", max_retries=0
    ) as client:
        yield client


def test_message_is_typed(client: Any) -> None:
    """The fields are those of the SDK's types."""
    message = client.messages.create(model="mock", max_tokens=64, messages=USER)

    assert message.content[0].text
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 0


def test_stream_is_accumulated_to_the_message(client: Any) -> None:
    """The SDK's accumulator gives the message that is not streamed."""
    request = {"model": "mock", "max_tokens": 64, "messages": USER}
    with client.messages.stream(**request) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    whole = client.messages.create(**request)

    assert text == final.content[0].text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_tool_is_called_in_a_stream(client: Any) -> None:
    """The pieces of the input are joined to an object."""
    with client.messages.stream(model="mock", max_tokens=64, messages=USER, tools=[TOOL]) as stream:
        final = stream.get_final_message()

    assert final.stop_reason == "tool_use"
    assert final.content[0].input == {"city": "Paris"}


def test_thinking_has_its_signature(client: Any) -> None:
    """The SDK adds the signature to the block of thinking."""
    thinking = {"type": "enabled", "budget_tokens": 1024}
    with client.messages.stream(
        model="mock", max_tokens=2048, messages=USER, thinking=thinking
    ) as stream:
        final = stream.get_final_message()

    assert final.content[0].thinking
    assert final.content[0].signature


def test_structured_answer_is_parsed(client: Any) -> None:
    """The SDK sends the schema in output_config and validates the answer."""
    message = client.messages.parse(
        model="mock", max_tokens=256, messages=USER, output_format=Person
    )

    assert isinstance(message.parsed_output, Person)


def test_tokens_are_counted(client: Any) -> None:
    """The count is the usage of the same prompt."""
    counted = client.messages.count_tokens(model="mock", messages=USER, tools=[TOOL])
    used = client.messages.create(model="mock", max_tokens=64, messages=USER, tools=[TOOL])

    assert counted.input_tokens == used.usage.input_tokens


@pytest.mark.parametrize(
    ("wrong", "error", "kind"),
    [
        ({"max_tokens": -1}, "BadRequestError", "invalid_request_error"),
        ({"model": "nope"}, "NotFoundError", "not_found_error"),
        ({"extra_body": {"temperature": 1}}, "BadRequestError", "invalid_request_error"),
    ],
)
def test_refusal_has_the_class_of_its_status(
    client: Any, wrong: dict[str, Any], error: str, kind: str
) -> None:
    """The error has the type and the message of the envelope."""
    request = {"model": "mock", "max_tokens": 1, "messages": USER} | wrong

    with pytest.raises(getattr(anthropic, error)) as caught:
        client.messages.create(**request)

    assert caught.value.body["error"]["type"] == kind


def test_wrong_key_is_an_authentication_error(server: MockServer) -> None:
    """The key is read from the header that the SDK sends."""
    with (
        anthropic.Anthropic(base_url=server.root_url, api_key="wrong-key") as client,
        pytest.raises(anthropic.AuthenticationError),
    ):
        client.messages.create(model="mock", max_tokens=1, messages=USER)


def test_overload_is_retried(server: MockServer) -> None:
    """A 529 is followed by the answer."""
    server.play(Script(faults=[Fault(status=529, retry_after=0)]))
    with anthropic.Anthropic(base_url=server.root_url, api_key="secret-key") as client:
        message = client.messages.create(model="mock", max_tokens=8, messages=USER)

    assert message.content[0].text
