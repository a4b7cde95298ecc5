"""Models as a file names them: a Python class, a JSON schema, or a short list of fields."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from llmengine.pipeline.inline_models import INLINE_MODULE, model_of_schema
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


def model_of(name: str, spec: Any, where: str) -> type[BaseModel]:
    """The model behind ``package.module:Class``, ``{schema: ...}`` or ``{fields: ...}``.

    Raises ConfigError that begins with `where`.
    """
    if isinstance(spec, str):
        return _imported(spec, where)
    if isinstance(spec, dict) and set(spec) == {"schema"}:
        return model_of_schema(name, spec["schema"], where)
    if isinstance(spec, dict) and set(spec) == {"fields"}:
        return model_of_schema(name, _schema_of_fields(spec["fields"], where), where)
    msg = (
        f"{where}: give the name of a model, package.module:Class, "
        "{schema: ...} with a JSON schema, or {fields: ...}"
    )
    raise ConfigError(msg)


def spec_of(model: type[BaseModel]) -> Any:
    """How a file names this model: a class by its place, any other by its schema."""
    if model.__module__ == INLINE_MODULE or "<locals>" in model.__qualname__:
        return {"schema": model.model_json_schema()}
    return f"{model.__module__}:{model.__qualname__}"


def _schema_of_fields(fields: Any, where: str) -> Mapping[str, Any]:
    """A closed object; each field is a type, a list of allowed values, or a schema.

    A name that ends in ``?`` may be left out.
    """
    if not isinstance(fields, dict) or not fields:
        msg = f"{where}: fields: give a mapping of names to types, such as {{summary: string}}"
        raise ConfigError(msg)
    if odd := [name for name in fields if not isinstance(name, str)]:
        msg = f"{where}: fields: {odd[0]!r} is no string; put the name in quotes"
        raise ConfigError(msg)
    return {
        "type": "object",
        "properties": {name.removesuffix("?"): _fragment(f) for name, f in fields.items()},
        "required": [name for name in fields if not name.endswith("?")],
    }


def _fragment(field: Any) -> Any:
    if isinstance(field, str):
        return {"type": field}
    return {"enum": field} if isinstance(field, list) else field


def _imported(spec: str, where: str) -> type[BaseModel]:
    module, colon, path = spec.partition(":")
    if not colon or not module or not path:
        msg = f"{where}: {spec!r} is no model of this file, and no package.module:Class"
        raise ConfigError(msg)
    try:
        found: Any = import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"{where}: {spec!r} cannot be imported: {error}"
        raise ConfigError(msg) from error
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        msg = f"{where}: {spec!r} is no pydantic model class"
        raise ConfigError(msg)
    return found
