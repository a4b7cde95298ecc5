"""Answers that shall fit a JSON schema, where there is no Python type for it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter

from llmengine.types.errors import InvalidRequestError


def schema_adapter(schema: dict[str, Any]) -> TypeAdapter[Any]:
    """What validates JSON by a schema, of the draft that it names, and gives plain values.

    Raises InvalidRequestError for what is no JSON schema.
    """
    from jsonschema import SchemaError  # noqa: PLC0415 - heavy and rare
    from jsonschema.exceptions import best_match  # noqa: PLC0415 - as above
    from jsonschema.validators import Draft202012Validator, validator_for  # noqa: PLC0415

    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        msg = f"output_model is no JSON schema: {error.json_path}: {error.message}"
        raise InvalidRequestError(msg) from error
    validator = kind(schema)

    def check(value: Any) -> Any:
        if error := best_match(validator.iter_errors(value)):
            raise ValueError(f"{error.json_path}: {error.message}")
        return value

    return TypeAdapter(Annotated[Any, AfterValidator(check)])
