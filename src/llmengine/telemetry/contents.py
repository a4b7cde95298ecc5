"""Prompts and answers in the conventions' message format, for those who ask for them.

Format: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-input-messages.json. Images and
other media are told by their type alone, since a trace is no place for megabytes.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from llmengine.types.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.types.outputs import CompletionOutput, LLMOutput
    from llmengine.types.request import ChatRequest

SWITCH = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_ON = {"true", "span_only", "span_and_event"}


def wanted() -> bool:
    """Whether prompts and answers may go into spans; OpenTelemetry's own switch says so."""
    return os.environ.get(SWITCH, "").lower() in _ON


def conversation(request: ChatRequest) -> dict[str, str]:
    """The messages and the tools of a request."""
    said = {"gen_ai.input.messages": _json([_message(m) for m in request.messages])}
    if request.tools:
        said["gen_ai.tool.definitions"] = _json(list(request.tools))
    return said


def answer(output: LLMOutput) -> dict[str, str]:
    """The answers, also what had arrived of one that broke off."""
    return {"gen_ai.output.messages": _json([_answer(o) for o in output.outputs])}


def _json(value: Any) -> str:
    return scrub(json.dumps(value, ensure_ascii=False, default=str))


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role, content = message["role"], message.get("content")
    if role == "tool":
        called = message.get("tool_call_id")
        parts = [{"type": "tool_call_response", "id": called, "response": content}]
    else:
        parts = _parts(content) + [_call(c) for c in message.get("tool_calls") or ()]
    return {"role": role, "parts": parts}


def _parts(content: Any) -> list[dict[str, Any]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [_text(content)]
    return [_part(part) for part in content]


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return _text(part)
    return _text(part["text"]) if "text" in part else {"type": part.get("type", "unknown")}


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function", {})
    return _tool_call(call.get("id"), function.get("name"), function.get("arguments"))


def _answer(output: CompletionOutput) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    if output.reasoning:
        parts.append({"type": "reasoning", "content": output.reasoning})
    if output.text:
        parts.append(_text(output.text))
    parts += [_tool_call(c.id, c.name, c.arguments) for c in output.tool_calls]
    return {"role": "assistant", "parts": parts, "finish_reason": output.finish_reason}


def _text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


def _tool_call(call_id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}
