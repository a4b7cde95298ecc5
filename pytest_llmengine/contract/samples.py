"""The tools and schemas that checks send.

They are short, and made so that no model gives the wanted answer by chance.
"""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]

CALL_TOKENS = 64  # enough for one short call, and soon reached if the model makes none


def object_of(properties: JSON, **more: Any) -> JSON:
    """The schema of an object with these properties and no other; all are required."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


def function(
    name: str, description: str, properties: JSON, *, strict: bool = True, **more: Any
) -> JSON:
    """A function tool whose properties are all required."""
    given = {"name": name, "description": description, "parameters": object_of(properties, **more)}
    return {"type": "function", "function": given | ({"strict": True} if strict else {})}


def named(tool: JSON) -> JSON:
    """The ``tool_choice`` that names this tool."""
    return {"type": "function", "function": {"name": tool["function"]["name"]}}


def allowed(mode: str, *tools: JSON) -> JSON:
    """The ``tool_choice`` that allows only these tools."""
    names = [named(tool) for tool in tools]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": names}}


def turn_with_calls(prompt: str, *calls: tuple[JSON, str]) -> list[JSON]:
    """The messages up to an assistant's calls: tools with the arguments of the call.

    The ids are call_1, call_2 and so on.
    """
    made = [
        {"id": f"call_{index}", **_call(tool, arguments)}
        for index, (tool, arguments) in enumerate(calls, 1)
    ]
    called: JSON = {"role": "assistant", "content": None, "tool_calls": made}
    return [{"role": "user", "content": prompt}, called]


def _call(tool: JSON, arguments: str) -> JSON:
    return {
        "type": "function",
        "function": {"name": tool["function"]["name"], "arguments": arguments},
    }


def result(index: int, text: str) -> JSON:
    """The message with the result of a call of `turn_with_calls`."""
    return {"role": "tool", "tool_call_id": f"call_{index}", "content": text}


def constrained_to(schema: JSON) -> JSON:
    """The ``response_format`` that asks for this schema."""
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": schema},
    }


WEATHER = function(
    "get_weather", "The weather of a city.", {"city": {"type": "string", "enum": ["Paris"]}}
)
TIME = function("get_time", "The time in a zone.", {"zone": {"type": "string", "enum": ["UTC"]}})
PING = function("ping", "Pings the server. Takes no arguments.", {})
WORD = "Grüße 漢字 🦊"
ESCAPES = 'say "hi" \\ and\n\tgo'


def saving(word: str) -> JSON:
    """A tool whose strict schema allows this word alone."""
    return function(
        "save_word", "Saves a word as it is.", {"word": {"type": "string", "enum": [word]}}
    )


ROUTE = function(
    "plan_route",
    "Plans a route.",
    {
        "route": object_of(
            {
                "stops": {
                    "type": "array",
                    "items": {"type": "string", "enum": ["Lyon"]},
                    "minItems": 1,
                    "maxItems": 2,
                }
            }
        )
    },
)

COLOUR_SCHEMA: JSON = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["vermilion"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
COLOUR = {"colour": "vermilion"}
FOREIGN = "Zürich,  北京 and 🦊"  # each kind of text that servers have lost, and two spaces

ASK_WEATHER = "What is the weather in Paris? Call the tool."
ASK_TIME = "What time is it in UTC? Call the tool."
ASK_BOTH = "What is the weather in Paris, and what time is it in UTC? Call both tools."
