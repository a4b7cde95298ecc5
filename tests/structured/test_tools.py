"""Tools given as functions, models or schemas, and what is sent for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import BaseModel

from llmengine import EngineConfig, InvalidRequestError
from llmengine.structured.tools import as_tools

if TYPE_CHECKING:
    from collections.abc import Callable


def weather(city: str, days: int = 3, unit: Literal["C", "F"] = "C") -> str:
    """The weather of a city.

    For some days.
    """
    return f"{city} {days} {unit}"


class Clock(BaseModel):
    """The time somewhere."""

    zone: str


SCHEMA = {"name": "add", "parameters": {"type": "object", "properties": {}}}


def test_function_becomes_a_tool() -> None:
    """Name, docstring and parameters; those without a default are required."""
    (tool,) = as_tools([weather])

    function = tool["function"]
    assert tool["type"] == "function"
    assert function["name"] == "weather"
    assert function["description"] == "The weather of a city.\n\nFor some days."
    assert function["parameters"]["required"] == ["city"]
    assert function["parameters"]["properties"]["unit"]["enum"] == ["C", "F"]


def test_model_becomes_a_tool() -> None:
    """Its fields are the parameters."""
    (tool,) = as_tools([Clock])

    assert tool["function"]["name"] == "Clock"
    assert tool["function"]["description"] == "The time somewhere."
    assert tool["function"]["parameters"]["required"] == ["zone"]


@pytest.mark.parametrize("given", [SCHEMA, {"type": "function", "function": SCHEMA}])
def test_schema_is_taken_whole_or_as_the_function_alone(given: dict[str, Any]) -> None:
    """Both common spellings are sent in OpenAI's."""
    assert as_tools([given]) == ({"type": "function", "function": SCHEMA},)


def _positional(city: str, /) -> None: ...
def _anything(*cities: str) -> None: ...


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (7, "tool 0 is 7; give a function"),
        (lambda city: city, "tool 0 has no name"),
        (_positional, r"_positional\(\): it must take its parameters by name"),
        (_anything, r"_anything\(\): it must take its parameters by name"),
        ({"function": {"parameters": {}}}, "tool 0 has no function name"),
    ],
)
def test_value_that_is_not_a_tool_is_refused(given: Any, words: str) -> None:
    """One line names the tool and says what to give."""
    with pytest.raises(InvalidRequestError, match=words):
        as_tools([given])


def test_engine_calls_with_any_of_them() -> None:
    """A forced call of a function's tool has arguments that the function takes."""
    with EngineConfig(backend="mock", model="mock").engine as engine:
        (output,) = engine.generate("Weather?", tools=[weather, Clock], tool_choice="required")

    (first, *_) = output.tool_calls
    assert first.name == "weather"


def test_tools_go_over_the_wire(raw_server: Callable[[Any], Any], chat: Any) -> None:
    """The request has OpenAI's spelling."""
    server = raw_server(lambda _, c: c.reply(chat()))
    config = EngineConfig(backend="openai_compatible", model="m", endpoint=server.url)

    config.engine.generate("hi", tools=[weather])

    assert server.requests[0].json["tools"] == list(as_tools([weather]))
