"""A request's body as the arguments of the SDK's methods."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic_core import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Arguments of the methods that are no fields of the body.
_ABOUT_SENDING = frozenset({"extra_body", "extra_headers", "extra_query", "timeout"})


@dataclass(frozen=True, slots=True)
class SDKCall:
    """A method of a resource, by name, and what to call it with."""

    method: str
    arguments: dict[str, Any]


def sdk_call(resource: Any, body: Mapping[str, Any]) -> SDKCall:
    """``parse`` for a body with a JSON schema, else ``create``."""
    told = _with_model(body)
    if told is None:
        return create_call(resource, body)
    return SDKCall("parse", _arguments(resource.parse, told))


def create_call(resource: Any, body: Mapping[str, Any]) -> SDKCall:
    """``create``, which takes every body."""
    return SDKCall("create", _arguments(resource.create, body))


def _with_model(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The body with its schema as a model class; None if ``parse`` does not take such a body."""
    text = body.get("text") or {}
    if _is_schema(text.get("format") or {}):  # responses
        rest = {key: value for key, value in text.items() if key != "format"}
        return {**body, "text": rest, "text_format": _model_of(text["format"])}
    wanted = body.get("response_format") or {}
    if _is_schema(wanted) and all(_is_strict(tool) for tool in body.get("tools") or ()):  # chat
        return {**body, "response_format": _model_of(wanted["json_schema"])}
    return None


def _is_schema(wanted: Mapping[str, Any]) -> bool:
    return wanted.get("type") == "json_schema"


def _is_strict(tool: Mapping[str, Any]) -> bool:
    return (tool.get("function") or {}).get("strict") is True


def _model_of(wanted: Mapping[str, Any]) -> type[BaseModel]:
    return _model_that_says(wanted["name"], to_json(wanted["schema"]))


@lru_cache(256)
def _model_that_says(name: str, schema: bytes) -> type[BaseModel]:
    """A model class with just that schema, which is how the SDK is told one.

    It is not the caller's own class, since that need not be a model, and since the schema is
    ours: rewritten for OpenAI's strict dialect, where the SDK's keeps keywords it does not take.
    """

    def model_json_schema(_: type[BaseModel]) -> Any:
        return from_json(schema)  # a new one each time, for the SDK writes into it

    return type(name, (BaseModel,), {"model_json_schema": classmethod(model_json_schema)})


def _arguments(method: Callable[..., Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """The body by argument; fields that this version of the SDK does not know as extra_body."""
    known = _fields(method.__func__)  # type: ignore[attr-defined]  # a bound method
    arguments = {name: value for name, value in body.items() if name in known}
    extra = {name: value for name, value in body.items() if name not in known}
    return {**arguments, "extra_body": extra} if extra else arguments


@lru_cache(8)
def _fields(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(signature(function).parameters) - _ABOUT_SENDING - {"self"}
