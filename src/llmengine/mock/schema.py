"""JSON schemas in requests: their validation, and values that fit them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmengine.mock.schema_combinators import SchemaError

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_schema(schema: object) -> None:
    """Raise SchemaError for a value that is not a JSON schema."""
    from jsonschema.exceptions import SchemaError as Invalid  # noqa: PLC0415 - used by few answers
    from jsonschema.validators import Draft202012Validator, validator_for  # noqa: PLC0415 - as above

    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise SchemaError("a schema is an object or a boolean")
    dialect = schema.get("$schema", "")
    if not isinstance(dialect, str) or "/draft-03/" in dialect:
        raise SchemaError(f"'$schema' {dialect!r} is not supported")
    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except Invalid as error:
        raise SchemaError(error.message) from error


def instance(
    schema: object, words: Sequence[str] = (), seed: int = 0, numbers: Sequence[float] = ()
) -> object:
    """Make a value that fits the schema, of these words and numbers if the schema allows them.

    Raises SchemaError if no value was found: the schema contradicts itself, never ends, refers to a
    schema that it does not contain, or is too difficult for this search.
    """
    from llmengine.mock.schema_values import ValueGenerator  # noqa: PLC0415 - jsonschema, as above

    return ValueGenerator(schema, words, seed, numbers).value()


def fits(schema: object, value: object) -> bool:
    """Whether the value fits the schema; raises SchemaError if a reference leads nowhere."""
    from llmengine.mock.schema_values import ValueGenerator  # noqa: PLC0415 - as above

    return ValueGenerator(schema, (), 0).accepts(value)


_MOST_CANDIDATES = 100


def schema_in(text: str) -> tuple[object, str]:
    """The first JSON schema of an object in a text, or None, and the text without it."""
    if '"properties"' not in text:
        return None, text
    decoder = json.JSONDecoder()
    start = -1
    for _ in range(_MOST_CANDIDATES):
        if (start := text.find("{", start + 1)) < 0:
            break
        try:
            value, end = decoder.raw_decode(text, start)
            if isinstance(value, dict) and isinstance(value.get("properties"), dict):
                check_schema(value)
                return value, text[:start] + text[end:]
        except (ValueError, RecursionError):  # SchemaError is a ValueError
            continue
    return None, text


def in_schema_order(schema: object, value: object) -> object:
    """The value with the properties of its objects in the order of the schema."""
    if not isinstance(schema, dict):
        return value
    if isinstance(value, list):
        return [in_schema_order(schema.get("items"), item) for item in value]
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties", {})
    ordered = dict.fromkeys([*(key for key in properties if key in value), *value])
    return {key: in_schema_order(properties.get(key), value[key]) for key in ordered}


__all__ = ["SchemaError", "check_schema", "fits", "in_schema_order", "instance", "schema_in"]
