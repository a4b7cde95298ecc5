"""Chains of LangChain at the address of an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field

from llmengine.mock import Fault, Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import Engine
    from llmengine.mock import MockServer

_COMMAND = "pip install langchain-openai langchain-ollama, or: nox -s clients"
langchain_openai = pytest.importorskip("langchain_openai", reason=_COMMAND)
langchain_ollama = pytest.importorskip("langchain_ollama", reason=_COMMAND)


class Person(BaseModel):
    """Somebody."""  # the recording has this description

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=130)


@pytest.fixture
def chat() -> Callable[..., Any]:
    """LangChain's model of OpenAI's API, with the address of an engine."""

    def make(engine: Engine, **fields: Any) -> Any:
        return langchain_openai.ChatOpenAI(
            base_url=engine.base_url, api_key="unused", model=engine.model, **fields
        )

    return make


def test_answer_and_usage(mock_engine: Engine, mock_server: MockServer, chat: Any) -> None:
    """The server's text and its usage arrive."""
    mock_server.play(Script(replies=["Paris."]))

    message = chat(mock_engine).invoke("The capital of France?")

    assert message.content == "Paris."
    assert message.usage_metadata["output_tokens"] == 2


def test_stream(mock_engine: Engine, mock_server: MockServer, chat: Any) -> None:
    """A stream comes token by token, and its usage at the end."""
    mock_server.play(Script(replies=["one two three"]))

    chunks = list(chat(mock_engine, stream_usage=True).stream("Count."))

    assert "".join(chunk.content for chunk in chunks) == "one two three"
    assert len([chunk for chunk in chunks if chunk.content]) > 1
    assert any(chunk.usage_metadata for chunk in chunks)


def test_tools_are_called(mock_engine: Engine, chat: Any) -> None:
    """A model with tools returns parsed calls."""
    calls = (
        chat(mock_engine)
        .bind_tools([Person], tool_choice="required")
        .invoke("Ann, 33 years old")
        .tool_calls
    )

    assert [call["name"] for call in calls] == ["Person"]
    assert Person.model_validate(calls[0]["args"])


def test_failures_are_seen_and_retried(
    mock_engine: Engine, mock_server: MockServer, chat: Any
) -> None:
    """LangChain's own retries succeed with a server that fails once."""
    mock_server.play(Script(replies=["Back."], faults=[Fault(status=503)]))

    assert chat(mock_engine, max_retries=1).invoke("Hello?").content == "Back."
    assert len(mock_server.calls) == 2


def test_structured_output_of_a_real_model(embedded_engine: Engine, chat: Any) -> None:
    """llama.cpp enforces the schema that LangChain sends."""
    model = chat(embedded_engine, max_tokens=60, temperature=0)

    person = model.with_structured_output(Person, method="json_schema").invoke("Ann is 33.")

    assert isinstance(person, Person)


def test_ollamas_own_client(mock_engine: Engine, mock_server: MockServer) -> None:
    """The mock has Ollama's API too, which `ChatOllama` uses."""
    mock_server.play(Script(replies=["Bonjour."]))
    chat = langchain_ollama.ChatOllama(base_url=mock_engine.root_url, model=mock_engine.model)

    message = chat.invoke("Say hello in French.")

    assert message.content == "Bonjour."
    assert mock_server.calls[-1].path == "/api/chat"
