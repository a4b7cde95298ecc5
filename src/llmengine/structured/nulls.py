"""Nulls that only the strict dialect asked for, taken out again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.structured.refs import allows_null, resolved

if TYPE_CHECKING:
    from collections.abc import Mapping


def without_added_nulls(
    value: Any, schema: Mapping[str, Any], root: Mapping[str, Any] | None = None
) -> Any:
    """The value without the properties that are null where the model takes no null.

    A strict answer holds every property, so null is how it leaves one out; the model then takes
    its default.
    """
    root = schema if root is None else root
    schema = _chosen(value, resolved(schema, root), root)
    if isinstance(value, list) and "items" in schema:
        return [without_added_nulls(item, schema["items"], root) for item in value]
    if not isinstance(value, dict):
        return value
    properties, required = schema.get("properties", {}), schema.get("required", ())
    return {
        key: without_added_nulls(item, properties.get(key, {}), root)
        for key, item in value.items()
        if item is not None or key in required or allows_null(properties.get(key, {}), root)
    }


def _chosen(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The choice that a strict answer was made of: the one with just its keys and constants."""
    for keyword in ("anyOf", "oneOf"):
        for choice in schema.get(keyword, ()):
            candidate = _chosen(value, resolved(choice, root), root)
            if _fits(value, candidate):
                return candidate
    return schema


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    if isinstance(value, list):
        return "items" in schema
    properties = schema.get("properties")
    if not isinstance(value, dict) or properties is None:
        return False
    tags = {key: p["const"] for key, p in properties.items() if "const" in p}
    return set(value) == set(properties) and all(value[k] == tag for k, tag in tags.items())
