"""From the request of a DSPy that drives engines (3.4 and later) to one call of ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dspy import lm15

from llmengine.integrations.dspy.question import read_question

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmengine.integrations.dspy.question import Question

_CONFIG = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "response_format",
    "logprobs",
    "service_tier",
    "store",
)


def question_of(request: lm15.Request) -> Question:
    """The call that a request asks for.

    Raises UnsupportedFeatureError for content that chat completions have no place for, and our
    InvalidRequestError for parameters that no engine takes.
    """
    config = request.config
    arguments: dict[str, Any] = {name: getattr(config, name) for name in _CONFIG}
    arguments |= dict(config.extensions or {})
    arguments |= {"stop": config.stop or None, "user": config.user_id}
    if config.reasoning is not None:
        arguments["reasoning_effort"] = (
            False if config.reasoning.is_off else config.reasoning.effort
        )
    if config.probabilities == "required":
        raise _unsupported("config.probabilities", "probabilities of the answer's values")
    if request.tools:
        arguments["tools"] = [_tool(tool) for tool in request.tools]
    if config.tool_choice is not None:
        arguments["tool_choice"] = _choice(config.tool_choice)
        arguments["parallel_tool_calls"] = config.tool_choice.parallel
    return read_question(_messages(request), arguments)


def _messages(request: lm15.Request) -> list[dict[str, Any]]:
    system = [{"role": "system", "content": _system(request.system)}] if request.system else []
    return [*system, *(spelled for message in request.messages for spelled in _spelled(message))]


def _system(system: Any) -> Any:
    return system if isinstance(system, str) else _content(system)


def _spelled(message: lm15.Message) -> Iterable[dict[str, Any]]:
    """One message as OpenAI has it; the results of several tools are one message each."""
    if message.role == "tool":
        for part in message.parts:
            yield {"role": "tool", "tool_call_id": part.id, "content": _content(part.content)}
        return
    calls = [part for part in message.parts if part.type == "tool_call"]
    # What the model thought is no part of a chat's history.
    said = [part for part in message.parts if part.type not in {"tool_call", "thinking"}]
    spelled: dict[str, Any] = {"role": message.role, "content": _content(said) if said else None}
    if calls:
        spelled["tool_calls"] = [_call(call) for call in calls]
    yield spelled


def _content(parts: Iterable[Any]) -> str | list[dict[str, Any]]:
    spelled = [_part(part) for part in parts]
    if all(part["type"] == "text" for part in spelled):
        return "".join(part["text"] for part in spelled)
    return spelled


def _part(part: Any) -> dict[str, Any]:
    if part.type in {"text", "refusal"}:
        return {"type": "text", "text": part.text}
    if part.type == "data":
        return {"type": "text", "text": json.dumps(part.value, ensure_ascii=False)}
    if part.type == "image" and (part.url or part.data):
        url = part.url or f"data:{part.media_type};base64,{part.data}"
        detail = {"detail": part.detail} if part.detail else {}
        return {"type": "image_url", "image_url": {"url": url, **detail}}
    raise _unsupported("messages", f"a {part.type} part")


def _call(call: lm15.ToolCallPart) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json.dumps(call.input, ensure_ascii=False)}
    return {"id": call.id, "type": "function", "function": function}


def _tool(tool: Any) -> dict[str, Any]:
    if tool.type != "function":
        raise _unsupported(f"tools[{tool.name}]", f"the built-in tool {tool.name!r}")
    described = {"description": tool.description} if tool.description else {}
    function = {"name": tool.name, **described, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _choice(choice: lm15.ToolChoice) -> str | dict[str, Any]:
    if not choice.allowed:
        return str(choice.mode)
    named = [{"type": "function", "function": {"name": name}} for name in choice.allowed]
    if len(named) == 1 and choice.mode == "required":
        return named[0]
    return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": named}}


def _unsupported(feature: str, what: str) -> lm15.UnsupportedFeatureError:
    return lm15.UnsupportedFeatureError(
        f"chat completions have no place for {what}", feature=feature
    )
