"""Mutants of chat.messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import messages, refusing
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON, ReceivedRequest
    from pytest_llmengine.contract.mutants.hooks import Hook


def _dropping(role: str) -> Hook:
    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        return {**body, "messages": [m for m in body["messages"] if m["role"] != role]}

    return hook


def _emptying(role: str) -> Hook:
    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        messages = [m | {"content": "."} if m["role"] == role else m for m in body["messages"]]
        return {**body, "messages": messages}

    return hook


def _last_alone(body: JSON, call: ReceivedRequest) -> JSON:
    return {**body, "messages": body["messages"][-1:]}


def _a_message_a_part(body: JSON, call: ReceivedRequest) -> JSON:
    split = [
        message | {"content": part["text"]} if isinstance(part, dict) else message
        for message in body["messages"]
        for part in _parts(message)
    ]
    return {**body, "messages": split}


def _first_part_alone(body: JSON, call: ReceivedRequest) -> JSON:
    return {
        **body,
        "messages": [
            m | {"content": _parts(m)[:1]} if _is_parted(m) else m for m in body["messages"]
        ],
    }


def _parts_as_json(body: JSON, call: ReceivedRequest) -> JSON:
    messages = [
        m | {"content": str(m["content"])} if _is_parted(m) else m for m in body["messages"]
    ]
    return {**body, "messages": messages}


def _is_parted(message: JSON) -> bool:
    return isinstance(message.get("content"), list)


def _parts(message: JSON) -> list[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else [content]


mutant("chat.roles.system", Behaviour("system dropped", request=_dropping("system")))
mutant("chat.roles.developer", Behaviour("developer dropped", request=_dropping("developer")))
mutant(
    "chat.roles.developer",
    Behaviour(
        "developer refused",
        request=refusing(lambda body: body["messages"][0]["role"] == "developer"),
    ),
)
mutant("chat.content.parts_text", Behaviour("a message a part", request=_a_message_a_part))
mutant("chat.content.parts_text", Behaviour("first part alone", request=_first_part_alone))
mutant("chat.content.parts_text", Behaviour("parts as JSON", request=_parts_as_json))
mutant(
    "chat.content.empty_string",
    Behaviour('"" refused', request=refusing(lambda body: body["messages"][-1]["content"] == "")),
)
mutant("chat.tool_result.roundtrip", Behaviour("results dropped", request=_emptying("tool")))
mutant(
    "chat.tool_result.roundtrip",
    Behaviour(
        "results refused", request=refusing(lambda body: body["messages"][-1]["role"] == "tool")
    ),
)
mutant("chat.multi_turn.assistant_history", Behaviour("no memory", request=_last_alone))
mutant(
    "chat.multi_turn.assistant_history",
    Behaviour("deaf to itself", request=_emptying("assistant")),
)
mutant(
    "chat.assistant.last_message",
    Behaviour(
        "prefill refused",
        request=refusing(lambda body: body["messages"][-1]["role"] == "assistant"),
    ),
)
mutant("chat.messages.order", Behaviour("reversed", request=messages(lambda m: m[::-1])))
