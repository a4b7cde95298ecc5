"""Chat messages in Ollama's format: flat text, separate images, tool calls as objects.

OpenAI's messages have parts of text and images in one list, and the arguments of tool calls as
JSON text. Other fields of a message, such as Ollama's own ``images``, are sent as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic_core import from_json

from llmengine.dialects.fields import FieldError, any_mapping, any_mappings, required_text, text
from llmengine.types.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmengine.types.request import Message


_LONGEST_QUOTE = 60


def to_ollama(messages: Iterable[Message]) -> list[dict[str, object]]:
    """OpenAI's messages in Ollama's format.

    Raises InvalidRequestError, which names the message, for a part that Ollama cannot take.
    """
    tool_names: dict[str, str] = {}  # by the id of the call
    written = []
    for place, message in enumerate(messages):
        try:
            written.append(_message(message, tool_names))
        except FieldError as error:
            raise InvalidRequestError(f"message {place}: {error}") from None
    return written


_REWRITTEN = frozenset({"content", "tool_calls", "reasoning", "reasoning_content"})


def _message(message: Message, tool_names: dict[str, str]) -> dict[str, object]:
    written = {k: v for k, v in message.items() if k not in _REWRITTEN}
    written |= _content(message)
    if written["role"] == "developer":
        written["role"] = "system"
    thinking = message.get("reasoning") or message.get("reasoning_content")
    if thinking:
        written["thinking"] = thinking
    if message.get("tool_calls"):
        calls = any_mappings(message, "tool_calls")
        written["tool_calls"] = [_tool_call(call, tool_names) for call in calls]
    if written["role"] == "tool":
        # The tool that a result belongs to: Ollama wants its name, OpenAI the id of the call.
        name = message.get("name") or tool_names.get(text(message, "tool_call_id") or "")
        if name:
            written["tool_name"] = name
    return written


def _content(message: Message) -> dict[str, object]:
    """``content`` as one string, with ``images`` if there are any."""
    content = message.get("content")
    if content is None or isinstance(content, str):
        return {"content": content or ""}
    texts, images = [], []
    for part in any_mappings(message, "content"):
        kind = part.get("type")
        if kind == "text":
            texts.append(required_text(part, "text", "content[]."))
        elif kind == "image_url":
            images.append(_image(part.get("image_url")))
        else:
            raise FieldError(f"Ollama takes text and image parts, not {kind or dict(part)!r}")
    joined: dict[str, object] = {"content": "\n".join(texts)}
    return joined | {"images": images} if images else joined


def _image(image: object) -> str:
    """The base64 text of an image; Ollama does not fetch images from addresses."""
    url = str(image.get("url") if isinstance(image, Mapping) else image)
    header, comma, data = url.partition(",")
    if not (header.startswith("data:") and header.endswith(";base64") and comma):
        raise FieldError(
            f"the image {url[:_LONGEST_QUOTE]!r} is an address, and Ollama does not fetch images; "
            "give the image itself, as 'data:image/png;base64,...'"
        )
    return data


def _tool_call(call: Mapping[str, object], tool_names: dict[str, str]) -> dict[str, object]:
    function = any_mapping(call, "function", "tool_calls[].")
    name = required_text(function, "name", "tool_calls[].function.")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        arguments = _arguments(arguments, name)
    written: dict[str, object] = {"function": {"name": name, "arguments": arguments}}
    call_id = text(call, "id", "tool_calls[].")
    if not call_id:
        return written
    tool_names[call_id] = name
    return {"id": call_id, **written}


def _arguments(given: str, name: str) -> dict[str, object]:
    try:
        arguments = from_json(given)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise FieldError(
            f"the arguments of the call of {name!r} are {given[:_LONGEST_QUOTE]!r}; "
            "Ollama takes only a JSON object"
        )
    return arguments
