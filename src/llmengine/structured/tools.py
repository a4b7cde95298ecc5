"""Tools in OpenAI's format, made from functions, pydantic models and schemas."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticUserError

from llmengine.types.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from llmengine.types.request import ChatRequest

Tool = Mapping[str, object] | type[BaseModel] | Callable[..., object]

# OpenAI says "required", Mistral "any".
_REQUIRED = frozenset({"required", "any"})
_NOT_A_NAME = frozenset({"<lambda>", ""})


def as_tools(tools: Sequence[Tool]) -> tuple[Mapping[str, object], ...]:
    """The tools in OpenAI's format.

    A function becomes a tool with its name, docstring and parameters, and a pydantic model
    becomes a tool with its name, docstring and fields. A mapping is used as it is; it may also be
    only the ``function`` part of a tool. Raises InvalidRequestError, which names the tool.
    """
    return tuple(_as_tool(tool, place) for place, tool in enumerate(tools))


def _as_tool(tool: object, place: int) -> Mapping[str, object]:
    if isinstance(tool, Mapping):
        return _checked(tool, place)
    if isinstance(tool, type) and issubclass(tool, BaseModel):
        return _tool(tool.__name__, tool.__doc__, tool.model_json_schema())
    if callable(tool):
        return _of_function(tool, place)
    raise InvalidRequestError(
        f"tool {place} is {tool!r}; give a function, a pydantic model, or a mapping like "
        "{'type': 'function', 'function': {'name': ..., 'parameters': ...}}"
    )


def _of_function(function: Callable[..., object], place: int) -> Mapping[str, object]:
    name = getattr(function, "__name__", "")
    if name in _NOT_A_NAME:
        raise InvalidRequestError(f"tool {place} has no name; give a function made by `def`")
    try:
        schema = TypeAdapter[Any](function).json_schema()  # type: ignore[arg-type]  # it takes functions
    except (PydanticUserError, NameError) as error:
        raise InvalidRequestError(f"tool {place}, {name}(): {error}") from error
    if schema.get("type") != "object":
        raise InvalidRequestError(
            f"tool {place}, {name}(): it must take its parameters by name, "
            "without `/` and without *args"
        )
    return _tool(name, inspect.getdoc(function), schema)


def _tool(name: str, doc: str | None, parameters: Mapping[str, object]) -> Mapping[str, object]:
    described = {"description": inspect.cleandoc(doc)} if doc else {}
    function = {"name": name, **described, "parameters": parameters}
    return {"type": "function", "function": function}


def _checked(tool: Mapping[str, object], place: int) -> Mapping[str, object]:
    if "type" in tool and tool["type"] != "function":
        return tool  # a built-in tool of the server, which checks it
    function = tool.get("function", tool)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InvalidRequestError(f"tool {place} has no function name: {tool!r}")
    return tool if "function" in tool else {"type": "function", "function": tool}


def demanded_tools(request: ChatRequest) -> frozenset[str] | None:
    """The names of the tools of which ``tool_choice`` demands a call; None if it demands none.

    An empty set means that a call of any tool is enough: built-in tools of a server have no names.
    """
    choice = request.tool_choice
    if isinstance(choice, str):
        return _names(request.tools) if choice in _REQUIRED else None
    if choice is None:
        return None
    if choice.get("type") == "allowed_tools":
        return _names_if_required(choice.get("allowed_tools", choice))
    name = _name(choice)
    return None if name is None else frozenset({name})


def _names_if_required(allowed: object) -> frozenset[str] | None:
    """The names in the object of ``allowed_tools`` if one of its tools must be called."""
    if not isinstance(allowed, Mapping) or allowed.get("mode") != "required":
        return None
    return _names(allowed.get("tools", ()))


def _names(tools: Iterable[Mapping[str, object]]) -> frozenset[str]:
    names = [_name(tool) for tool in tools]
    return frozenset() if None in names else frozenset(filter(None, names))


def _name(tool: Mapping[str, object]) -> str | None:
    """The name of a tool or of a tool choice, in chat's nested format or flat."""
    inner = tool.get("function") or tool.get("custom") or tool
    name = inner.get("name") if isinstance(inner, Mapping) else None
    return name if isinstance(name, str) else None
