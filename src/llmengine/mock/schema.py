"""JSON schemas that requests bring: whether they are schemas, and values that fit them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.mock.wire import SchemaError

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_schema(schema: Any) -> None:
    """Raise SchemaError for a value that is no JSON schema."""
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


def instance(schema: Any, words: Sequence[str] = (), seed: int = 0) -> Any:
    """A value that fits the schema, made of these words where it leaves the choice.

    Raises SchemaError where no value was found: the schema contradicts itself, never ends, points
    to a schema that is not in it, or asks for more than this can do.
    """
    from llmengine.mock.schema_values import Maker  # noqa: PLC0415 - jsonschema, as above

    return Maker(schema, words, seed).value()


__all__ = ["SchemaError", "check_schema", "instance"]
