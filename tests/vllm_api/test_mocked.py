"""A vllm_api engine and the vLLM routes of the mock, for machines without vLLM."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    EngineConfig,
    InvalidRequestError,
    NotFoundError,
    SamplingParams,
    UnexpectedResponseError,
)
from llmengine.mock import Behaviour, Fault, MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine import Engine

MESSAGES = [{"role": "user", "content": "Count from 1 to 3."}]
GREEDY = SamplingParams(temperature=0, return_token_ids=True)


def weather(city: str) -> str:
    """The weather of a city."""
    return city


def _engine(server: MockServer) -> Engine:
    return EngineConfig(backend="vllm_api", model="mock", endpoint=server.root_url).engine


@pytest.fixture(scope="module")
def mocked() -> Iterator[tuple[Engine, MockServer]]:
    """An engine and the mock server that it takes for vLLM."""
    with MockServer() as server:
        yield _engine(server), server


def test_token_ids_of_prompt_and_answer(mocked: tuple[Engine, MockServer]) -> None:
    """The ids are those that the server sent, whole and streamed."""
    engine, _ = mocked
    (output,) = engine.generate(MESSAGES, GREEDY)
    (answer,) = output.outputs
    assert output.usage is not None
    assert len(output.prompt_token_ids or ()) == output.usage.prompt_tokens
    assert len(answer.token_ids or ()) == output.usage.completion_tokens
    deltas = list(engine.stream(MESSAGES, GREEDY))
    assert deltas[0].prompt_token_ids == output.prompt_token_ids
    assert tuple(chain.from_iterable(d.token_ids for d in deltas)) == answer.token_ids


def test_tokens_there_and_back(mocked: tuple[Engine, MockServer]) -> None:
    """The tokens of a text give the text again, for sync and async callers."""
    engine, _ = mocked
    tokens = engine.tokenize("Hello, big world")
    assert tokens.count == 4
    assert tokens.max_model_len == 8192
    assert engine.detokenize(tokens.token_ids) == "Hello, big world"
    assert asyncio.run(engine.atokenize("Hello, big world")) == tokens
    assert asyncio.run(engine.adetokenize(tokens.token_ids)) == "Hello, big world"


@pytest.mark.parametrize("options", [{}, {"tools": [weather]}])
def test_messages_are_tokenized_as_a_chat(
    mocked: tuple[Engine, MockServer], options: dict[str, Any]
) -> None:
    """They have the tokens that a chat with the same options has."""
    engine, _ = mocked
    (output,) = engine.generate(MESSAGES, GREEDY, **options)
    assert engine.tokenize(MESSAGES, **options).token_ids == output.prompt_token_ids


@pytest.mark.parametrize(
    ("options", "kwargs"),
    [
        ({"reasoning": True}, {"enable_thinking": True}),
        ({"reasoning": "low"}, {"reasoning_effort": "low"}),
        ({"extra_body": {"chat_template_kwargs": {"a": 1}}}, {"a": 1}),
    ],
)
def test_what_shapes_the_template_goes_along(
    mocked: tuple[Engine, MockServer], options: dict[str, Any], kwargs: dict[str, Any]
) -> None:
    """The request has what a chat would give the template, and no sampling."""
    engine, server = mocked
    engine.tokenize(MESSAGES, **options)
    sent = server.calls[-1].json
    assert sent == {"model": "mock", "messages": MESSAGES, "chat_template_kwargs": kwargs}


def test_a_text_takes_no_options(mocked: tuple[Engine, MockServer]) -> None:
    """A text has no template, so tools would be silently dropped."""
    with pytest.raises(InvalidRequestError, match="give it as a message"):
        mocked[0].tokenize("Hello", tools=[weather])


def test_a_server_without_the_route_is_named() -> None:
    """The error has the address and says which server has the route."""
    gone = Behaviour(disabled_routes=frozenset({"/tokenize"}))
    with (
        MockServer(behaviour=gone) as server,
        pytest.raises(NotFoundError, match=f"{server.root_url}/tokenize is a route of vLLM"),
    ):
        _engine(server).tokenize("Hello")


def test_a_backend_without_a_tokenizer_says_so() -> None:
    """Nothing is started or sent."""
    engine = EngineConfig(backend="ollama_api", model="m").engine
    with pytest.raises(InvalidRequestError, match="'ollama_api' cannot tokenize"):
        engine.tokenize("Hello")
    with pytest.raises(InvalidRequestError, match="'ollama_api' cannot tokenize"):
        engine.detokenize([1])


def test_a_busy_server_is_asked_again() -> None:
    """The tokenizer is retried like a chat."""
    with MockServer(script=Script(faults=[Fault(status=503, retry_after=0)])) as server:
        assert _engine(server).tokenize("Hello").count == 1
        assert len(server.calls) == 2


@pytest.mark.parametrize("question", ["tokenize", "detokenize"])
def test_another_answer_is_an_error(question: str) -> None:
    """The error quotes a body without tokens."""
    odd = Behaviour(reply=lambda _body, _call: {"odd": 1})
    with (
        MockServer(behaviour=odd) as server,
        pytest.raises(UnexpectedResponseError, match="odd"),
    ):
        getattr(_engine(server), question)("Hello" if question == "tokenize" else [1])


def test_finish_reason_of_a_named_tool(mocked: tuple[Engine, MockServer]) -> None:
    """The server sends "stop" for a named tool; a caller sees "tool_calls"."""
    engine, server = mocked
    named = {"type": "function", "function": {"name": "weather"}}
    (output,) = engine.generate("In Lyon?", tools=[weather], tool_choice=named)
    assert output.outputs[0].finish_reason == "tool_calls"
    assert server.calls[-1].json["tools"][0]["function"]["strict"] is True
    deltas = list(engine.stream("In Lyon?", tools=[weather], tool_choice=named))
    assert [d.finish_reason for d in deltas if d.finish_reason] == ["tool_calls"]
