"""The tools and schemas that checks send.

They are short, and made so that no model gives the wanted answer by chance.
"""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]

CALL_TOKENS = 64  # enough for one short call, and soon reached if the model makes none


def function(name: str, description: str, properties: JSON) -> JSON:
    """A strict function tool whose properties are all required."""
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": parameters,
            "strict": True,
        },
    }


def named(tool: JSON) -> JSON:
    """The ``tool_choice`` that names this tool."""
    return {"type": "function", "function": {"name": tool["function"]["name"]}}


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
SAVE_WORD = function(
    "save_word", "Saves a word as it is.", {"word": {"type": "string", "enum": [WORD]}}
)
ROUTE = function(
    "plan_route",
    "Plans a route.",
    {
        "route": {
            "type": "object",
            "properties": {
                "stops": {
                    "type": "array",
                    "items": {"type": "string", "enum": ["Lyon"]},
                    "minItems": 1,
                    "maxItems": 2,
                }
            },
            "required": ["stops"],
            "additionalProperties": False,
        }
    },
)

COLOUR_SCHEMA: JSON = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["vermilion"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
COLOUR = {"colour": "vermilion"}

ASK_WEATHER = "What is the weather in Paris? Call the tool."
ASK_BOTH = "What is the weather in Paris, and what time is it in UTC? Call both tools."
