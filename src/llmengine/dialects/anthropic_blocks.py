"""Chat messages in Anthropic's format: content blocks, and the system prompt apart.

OpenAI's messages have tool calls beside the content, and a message for each result of a tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic_core import from_json

from llmengine.dialects.fields import (
    FieldError,
    any_mapping,
    any_mappings,
    quote,
    required_text,
)
from llmengine.types.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.types.request import Message


Block = Mapping[str, object]

_SYSTEM_ROLES = frozenset({"system", "developer"})
# Parts of OpenAI's messages for which Anthropic has no block.
_WITHOUT_BLOCK = frozenset({"file", "input_audio", "video_url"})


def system_and_messages(messages: Sequence[Message]) -> dict[str, object]:
    """OpenAI's messages as the fields ``system`` and ``messages``.

    The system messages at the beginning become ``system``. The results of tools become one user
    message, because those of all calls of an answer must be in the message after it. Other
    consecutive messages are kept, since the API itself makes one turn of them. Raises
    InvalidRequestError, which names the message, for a part that the API has no block for.
    """
    system: list[Block] = []
    turns: list[tuple[object, list[Block]]] = []
    for place, message in enumerate(messages):
        try:
            role, blocks = _turn(message)
        except FieldError as error:
            raise InvalidRequestError(f"message {place}: {error}") from None
        if role == "system" and not turns:
            system += blocks
        elif role == "tool" and turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, blocks))
    written = [
        {"role": "user" if role == "tool" else role, "content": _content(blocks)}
        for role, blocks in turns
    ]
    return {"system": _system(system), "messages": written} if system else {"messages": written}


def _system(blocks: list[Block]) -> str | list[Block]:
    """The system prompt as one text, because servers join blocks without anything between them."""
    if all(block.keys() == {"type", "text"} for block in blocks):
        return "\n\n".join([str(block["text"]) for block in blocks])
    return blocks


def _content(blocks: list[Block]) -> str | list[Block]:
    """The blocks, or the text of a single block that has nothing but a text."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return str(blocks[0]["text"])
    return blocks


def _turn(message: Message) -> tuple[object, list[Block]]:
    """The role, which is "system" for "developer" too, and the blocks of one message."""
    role = message["role"]
    if role == "tool":
        result = {"type": "tool_result", "tool_use_id": required_text(message, "tool_call_id")}
        return role, [{**result, "content": _content(_blocks(message))}]
    if role != "assistant":
        return "system" if role in _SYSTEM_ROLES else role, _blocks(message)
    thought = message.get("reasoning") or message.get("reasoning_content")
    # The signature, which only Anthropic's own server checks, is not part of an answer here.
    thinking = [{"type": "thinking", "thinking": thought, "signature": ""}] if thought else []
    calls = [_tool_use(call) for call in any_mappings(message, "tool_calls")]
    said = [block for block in _blocks(message) if block.get("text") != "" or not calls]
    return role, [*thinking, *said, *calls]


def _blocks(message: Message) -> list[Block]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [_block(part) for part in any_mappings(message, "content")]


def _block(part: Mapping[str, object]) -> Block:
    """One part of a message's content; a block in Anthropic's own format is kept."""
    kind = part.get("type")
    if kind == "image_url":
        return _image(str(any_mapping(part, "image_url", "content[].").get("url")))
    if kind == "refusal":
        return {"type": "text", "text": required_text(part, "refusal", "content[].")}
    if kind in _WITHOUT_BLOCK:
        raise FieldError(f"Anthropic's Messages API takes text and images, but no part of {kind!r}")
    return part


def _image(url: str) -> Block:
    header, comma, data = url.partition(",")
    if not (header.startswith("data:") and header.endswith(";base64") and comma):
        return {"type": "image", "source": {"type": "url", "url": url}}
    kind = header.removeprefix("data:").removesuffix(";base64")
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def _tool_use(call: Mapping[str, object]) -> Block:
    function = any_mapping(call, "function", "tool_calls[].")
    name = required_text(function, "name", "tool_calls[].function.")
    given = function.get("arguments") or {}
    try:
        arguments = from_json(given) if isinstance(given, str) else given
    except ValueError:
        arguments = None
    if not isinstance(arguments, Mapping):
        raise FieldError(
            f"the arguments of the call of {name!r} are {quote(str(given))!r}, but Anthropic's "
            "Messages API takes only a JSON object"
        )
    return {"type": "tool_use", "id": call.get("id"), "name": name, "input": arguments}
