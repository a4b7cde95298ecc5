"""Following the references that pydantic puts into its schemas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFS = "#/$defs/"


def resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema behind ``$ref``, as long as there is one; pydantic makes no circles of them."""
    while str(schema.get("$ref", "")).startswith(_DEFS):
        schema = root["$defs"][_name(schema["$ref"])]
    return schema


def _name(ref: str) -> str:
    return ref.removeprefix(_DEFS).replace("~1", "/").replace("~0", "~")


def allows_null(schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Whether null fits; a schema that says nothing takes it."""
    schema = resolved(schema, root)
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return any(allows_null(choice, root) for choice in schema[keyword])
    if "const" in schema or "enum" in schema:
        return None in schema.get("enum", [schema.get("const")])
    kinds = schema.get("type", "null")
    return "null" in ([kinds] if isinstance(kinds, str) else kinds)
