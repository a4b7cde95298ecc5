"""JSON schemas that requests bring: whether they are schemas, and values that fit them."""

from __future__ import annotations

from typing import Any


class SchemaError(ValueError):
    """A schema that is none, or that no value was found for."""


def check_schema(schema: Any) -> None:
    """Raise SchemaError for a value that is no JSON schema."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - only structured answers need it
    from jsonschema.exceptions import SchemaError as Invalid  # noqa: PLC0415 - as above

    try:
        Draft202012Validator.check_schema(schema)
    except Invalid as error:
        raise SchemaError(error.message) from error


def instance(schema: Any) -> Any:
    """A value for a schema."""
    return {}
