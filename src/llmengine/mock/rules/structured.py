"""Rules of response_format, and of every JSON schema that a request brings."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from llmengine.mock.reading import mapping
from llmengine.mock.rules.kinds import Problem, Rule, unknown_value, wrong_type
from llmengine.mock.schema import SchemaError, check_schema, instance

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from llmengine.mock.rules.kinds import Limits

FORMATS = frozenset({"text", "json_object", "json_schema"})
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def schema_problem(schema: Any, field: str) -> Problem | None:
    """The problem of a value that is no JSON schema, or that no value can fit."""
    return _invalid_schema(schema, field) or _impossible_schema(schema, field)


def _invalid_schema(schema: Any, field: str) -> Problem | None:
    try:
        check_schema(schema)
    except SchemaError as error:
        return Problem(f"Invalid schema for '{field}': {error}", field, "invalid_json_schema")
    return None


def _impossible_schema(schema: Any, field: str) -> Problem | None:
    try:
        instance(schema)
    except SchemaError as error:
        return Problem(f"Unsupported schema for '{field}': {error}", field, "invalid_json_schema")
    return None


def _schema(body: JSON) -> Any:
    chosen = mapping(body.get("response_format"))
    if chosen.get("type") != "json_schema":
        return None
    return mapping(chosen.get("json_schema")).get("schema")


def _type(body: JSON, limits: Limits) -> Problem | None:
    chosen = body.get("response_format")
    if not isinstance(chosen, dict):
        return None
    kind = chosen.get("type")
    if isinstance(kind, str) and kind in FORMATS:
        return None
    return unknown_value("response_format.type", kind, FORMATS)


def _missing(body: JSON, limits: Limits) -> Problem | None:
    chosen = mapping(body.get("response_format"))
    if chosen.get("type") != "json_schema" or isinstance(chosen.get("json_schema"), dict):
        return None
    field = "response_format.json_schema"
    return Problem(f"Missing required parameter: '{field}'.", field, "missing_required_parameter")


def _name(body: JSON, limits: Limits) -> Problem | None:
    chosen = mapping(body.get("response_format")).get("json_schema")
    if not isinstance(chosen, dict):
        return None
    name, field = chosen.get("name"), "response_format.json_schema.name"
    if not isinstance(name, str):
        return wrong_type(field, "a string", name)
    if _NAME.fullmatch(name):
        return None
    message = f"Invalid '{field}': string does not match pattern '{_NAME.pattern}'."
    return Problem(message, field, "invalid_value")


def _invalid(body: JSON, limits: Limits) -> Problem | None:
    schema = _schema(body)
    if schema is None:
        return None
    return _invalid_schema(schema, "response_format.json_schema.schema")


def _impossible(body: JSON, limits: Limits) -> Problem | None:
    schema = _schema(body)
    if schema is None or _invalid(body, limits):
        return None
    return _impossible_schema(schema, "response_format.json_schema.schema")


def _word(body: JSON, limits: Limits) -> Problem | None:
    if mapping(body.get("response_format")).get("type") != "json_object":
        return None
    if "json" in json.dumps(body.get("messages"), ensure_ascii=False).lower():
        return None
    message = (
        "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
        "'json_object'."
    )
    return Problem(message, "messages")


STRUCTURED_RULES = (
    Rule("struct.type.unknown", _type),
    Rule("struct.json_schema.missing", _missing),
    Rule("struct.json_schema.name", _name),
    Rule("struct.schema.invalid", _invalid),
    Rule("struct.schema.unsupported", _impossible),
    Rule("struct.json_object.word", _word),
)
