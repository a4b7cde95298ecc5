"""Messages in OpenAI's spelling, written as Ollama's native chat wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from llmengine.types.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmengine.types.request import Message


def to_ollama(messages: Iterable[Message]) -> list[Message]:
    """The messages with flat text, images apart, and tool calls as objects.

    Raises InvalidRequestError, naming the message, for a part that Ollama cannot take.
    """
    tool_names: dict[str, str] = {}
    written = []
    for place, message in enumerate(messages):
        try:
            written.append(_message(message, tool_names))
        except _CannotSayError as exc:
            raise InvalidRequestError(f"message {place}: {exc}") from None
    return written


class _CannotSayError(Exception):
    """A part of a message that has no place in Ollama's format."""


def _message(message: Message, tool_names: dict[str, str]) -> Message:
    # Fields that are not named here go as they are, Ollama's own such as `images` among them.
    ours = {k: v for k, v in message.items() if k not in _REWRITTEN}
    ours |= _content(message.get("content"))
    if ours["role"] == "developer":
        ours["role"] = "system"
    thinking = message.get("reasoning") or message.get("reasoning_content")
    if thinking:
        ours["thinking"] = thinking
    if message.get("tool_calls"):
        ours["tool_calls"] = [_tool_call(c, tool_names) for c in message["tool_calls"]]
    if ours["role"] == "tool":
        ours |= _tool_name(message, tool_names)
    return ours


_REWRITTEN = frozenset({"content", "tool_calls", "reasoning", "reasoning_content"})


def _content(content: Any) -> dict[str, Any]:
    """``content`` as one string, with ``images`` if there are any."""
    if content is None or isinstance(content, str):
        return {"content": content or ""}
    if not isinstance(content, (list, tuple)):
        raise _CannotSayError(f"content is a {type(content).__name__}, not a text or a list")
    texts, images = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            texts.append(part["text"])
        elif kind == "image_url":
            images.append(_image(part["image_url"]))
        else:
            raise _CannotSayError(f"Ollama takes text and image parts, not {kind or part!r}")
    joined: dict[str, Any] = {"content": "\n".join(texts)}
    return joined | {"images": images} if images else joined


def _image(given: str | Mapping[str, Any]) -> str:
    """The base64 text of an image; Ollama fetches none by itself."""
    url = given if isinstance(given, str) else str(given.get("url"))
    header, comma, data = url.partition(",")
    if not (header.startswith("data:") and header.endswith(";base64") and comma):
        raise _CannotSayError(
            f"image {url[:60]!r} is not inline, and Ollama fetches no addresses; "
            "give it as 'data:image/png;base64,...'"
        )
    return data


def _tool_call(call: Mapping[str, Any], tool_names: dict[str, str]) -> dict[str, Any]:
    function = call["function"]
    if call.get("id"):
        tool_names[call["id"]] = function["name"]
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        arguments = _arguments(arguments, function["name"])
    written = {"function": {"name": function["name"], "arguments": arguments}}
    return {"id": call["id"], **written} if call.get("id") else written


def _arguments(text: str, name: str) -> dict[str, Any]:
    try:
        arguments = from_json(text)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise _CannotSayError(
            f"the arguments of the call of {name!r} are {text[:60]!r}; Ollama takes a JSON object"
        )
    return arguments


def _tool_name(message: Message, tool_names: Mapping[str, str]) -> dict[str, str]:
    """Which tool a result is of: Ollama goes by name, OpenAI by the call's id."""
    name = message.get("name") or tool_names.get(message.get("tool_call_id") or "")
    return {"tool_name": name} if name else {}
