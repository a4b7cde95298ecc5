"""The parts of a whole chat completion."""

from __future__ import annotations

from typing import Any

from pytest_llmengine.contract.outcomes import Unmeasured
from pytest_llmengine.contract.reading.fields import objects, pick

REASONING_FIELDS = ("reasoning", "reasoning_content")
CALL_MARKUP = (
    "<tool_call",
    "</tool_call",
    "<|tool_call",
    "[TOOL_CALLS]",
    "<function=",
    "<|python_",
)


def choice(body: dict[str, Any]) -> dict[str, Any]:
    """The first choice."""
    return pick(body, dict, "choices", 0)


def message(body: dict[str, Any]) -> dict[str, Any]:
    """The first choice's message."""
    return pick(body, dict, "choices", 0, "message")


def content(body: dict[str, Any]) -> str:
    """The first choice's text; null, which goes with a tool call, is ""."""
    if message(body).get("content", "") is None:
        return ""
    return pick(body, str, "choices", 0, "message", "content")


def tool_calls(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The first choice's tool calls; none when the key is absent or null."""
    if message(body).get("tool_calls") is None:
        return []
    return objects(body, "choices", 0, "message", "tool_calls")


def called_names(body: dict[str, Any]) -> list[str]:
    """The names of the functions that the first choice calls."""
    return [pick(call, str, "function", "name") for call in tool_calls(body)]


def reasoning(body: dict[str, Any]) -> str:
    """The first choice's reasoning, by whichever name; "" when there is none."""
    fields = message(body)
    found = [fields[name] for name in REASONING_FIELDS if isinstance(fields.get(name), str)]
    return found[0] if found else ""


def said(body: dict[str, Any]) -> str:
    """All that the first choice says: its reasoning, then its text."""
    return reasoning(body) + content(body)


def usage(body: dict[str, Any], name: str) -> int:
    """A token count of the usage; a body without usage, which is optional, is unmeasured."""
    if body.get("usage") is None:
        raise Unmeasured("the answer has no usage")
    return pick(body, int, "usage", name)


def effect(body: dict[str, Any]) -> tuple[str, int | None]:
    """What a change of the messages shows in: all that is said, and the prompt's tokens."""
    has_usage = body.get("usage") is not None
    return said(body), usage(body, "prompt_tokens") if has_usage else None


def answered(body: dict[str, Any]) -> dict[str, Any]:
    """The body, unless the token cap came while the model was still reasoning or calling."""
    if choice(body).get("finish_reason") == "length":
        if reasoning(body) and not content(body):
            raise Unmeasured("the model was still reasoning when the token cap came")
        if content(body).startswith(CALL_MARKUP):
            raise Unmeasured(f"the token cap cut a tool call: {content(body)!r}")
    return body
