"""A tool that must be called, at servers that take ``tool_choice`` and ignore it."""

from __future__ import annotations

from typing import Any

import pytest

from llmengine import RefusedError, StructuredOutputError, TruncatedError


def weather(city: str) -> str:
    """The weather of a city."""
    return city


def clock(city: str) -> str:
    """The time in a city."""
    return city


NAMED = {"type": "function", "function": {"name": "clock"}}
ALLOWED = {
    "type": "allowed_tools",
    "allowed_tools": {"mode": "required", "tools": [NAMED]},
}
AUTO_ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}


def _call(name: str) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": "{}"}}


@pytest.fixture
def answering(engine_for: Any, chat: Any, chunk: Any) -> Any:
    """Makes an engine whose server says a text, or calls tools by name, for any request."""

    def make(text: str, *names: str, finish: str = "stop", **choice: Any) -> Any:
        message = {"content": text, "tool_calls": [_call(n) for n in names], **choice}

        def handler(request: Any, connection: Any) -> None:
            if not request.json.get("stream"):
                connection.reply(chat(message=message, finish_reason=finish))
                return
            connection.start_sse()
            one = chunk(text, finish=finish)
            one["choices"][0]["delta"] = message
            connection.sse(one, ...)
            connection.chunk(b"")

        return engine_for(handler)

    return make


@pytest.mark.parametrize("choice", ["required", "any", NAMED, ALLOWED], ids=str)
def test_an_answer_without_the_call_is_an_error(answering: Any, choice: Any) -> None:
    """Whole and streamed; the error keeps the text, and the prompt is sent once."""
    engine, server = answering("It rains.")
    options = {"tools": [weather, clock], "tool_choice": choice}

    (result,) = engine.results("hi", **options)
    texts: list[str] = []
    with pytest.raises(StructuredOutputError, match="calls no tool") as failed:
        texts.extend(delta.text for delta in engine.stream("hi", **options))

    assert type(result.error) is StructuredOutputError
    for error in (result.error, failed.value):
        assert "tool_choice" in str(error)
        assert error.partial.outputs[0].text == "It rains."
    assert texts == ["It rains."]
    assert result.usage.total_tokens == 5
    assert len(server.requests) == 2


@pytest.mark.parametrize("choice", [NAMED, ALLOWED], ids=["named", "allowed"])
def test_a_call_of_another_tool_is_an_error(answering: Any, choice: Any) -> None:
    """The name is checked; the error keeps the calls."""
    engine, _ = answering("", "weather")
    options = {"tools": [weather, clock], "tool_choice": choice}

    (result,) = engine.results("hi", **options)
    with pytest.raises(StructuredOutputError, match=r"calls 'weather', and .* allows only clock"):
        list(engine.stream("hi", **options))

    assert isinstance(result.error, StructuredOutputError)
    assert result.error.partial.tool_calls[0].name == "weather"


def test_a_call_of_a_tool_that_was_not_given_is_an_error(answering: Any) -> None:
    """Also if any tool may be called."""
    engine, _ = answering("", "clock", "made_up")

    (result,) = engine.results("hi", tools=[clock], tool_choice="required")

    assert "calls 'made_up'" in str(result.error)


@pytest.mark.parametrize(
    ("choice", "names"),
    [("required", ["weather"]), (NAMED, ["clock", "clock"]), (ALLOWED, ["clock"])],
    ids=["required", "named", "allowed"],
)
def test_the_call_that_was_demanded_is_an_answer(
    answering: Any, choice: Any, names: list[str]
) -> None:
    """Whole and streamed."""
    engine, _ = answering("", *names)
    options = {"tools": [weather, clock], "tool_choice": choice}

    (result,) = engine.results("hi", **options)
    deltas = list(engine.stream("hi", **options))

    assert result.ok
    assert {call.name for call in result.unwrap().tool_calls} == set(names)
    assert {call.name for d in deltas for call in d.tool_calls if call.name} == set(names)


@pytest.mark.parametrize("choice", [None, "auto", "none", AUTO_ALLOWED], ids=str)
def test_without_a_demand_a_text_is_an_answer(answering: Any, choice: Any) -> None:
    """Also for a tool of the server, which has no name to check."""
    engine, _ = answering("It rains.")

    assert engine.generate("hi", tools=[weather], tool_choice=choice)
    assert engine.generate("hi", tools=[{"type": "search"}], tool_choice={"type": "search"})


def test_any_call_will_do_if_a_tool_has_no_name(answering: Any) -> None:
    """A tool of the server may be called by any name."""
    engine, _ = answering("", "search_the_web")

    assert engine.generate("hi", tools=[weather, {"type": "search"}], tool_choice="required")


def test_reasons_for_a_missing_call(answering: Any) -> None:
    """The answer was cut by the token limit, or it is a refusal."""
    options: dict[str, Any] = {"tools": [weather], "tool_choice": "required"}
    (cut,) = answering("<tool", finish="length")[0].results("hi", **options)
    (refused,) = answering("", content=None, refusal="I will not.")[0].results("hi", **options)

    assert type(cut.error) is TruncatedError
    assert type(refused.error) is RefusedError
