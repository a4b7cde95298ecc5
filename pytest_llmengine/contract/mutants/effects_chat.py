"""Mutants of effects.chat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import (
    body,
    contents,
    forgets,
    messages,
    put,
)
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from pytest_llmengine.contract.mutants.hooks import Hook

# The rules for whole answers by the field that a server may drop.
FIELDS = {
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "frequency_penalty": ("frequency_penalty",),
    "presence_penalty": ("presence_penalty",),
    "logit_bias": ("logit_bias_ban",),
    "tools": ("tools", "tool_description", "tool_parameters"),
    "verbosity": ("verbosity",),
}


def without_in_tools(key: str) -> Behaviour:
    """A server whose prompt does not have a part of the tools."""

    def edit(request: JSON) -> None:
        for tool in request.get("tools", []):
            tool["function"].pop(key, None)

    return Behaviour(f"no {key}", request=body(edit))


def allows_every_tool(request: JSON) -> None:
    """Take a list of allowed tools for their mode."""
    if isinstance(request.get("tool_choice"), dict):
        request["tool_choice"] = "required"


def _in_ascii(text: str) -> str:
    return text.encode("ascii", "ignore").decode()


def texts_alone(found: list[JSON]) -> list[JSON]:
    """The messages without refusals and tool calls."""
    return [
        {**m, "content": m["content"] if isinstance(m.get("content"), str) else "No."}
        for m in ({k: v for k, v in m.items() if k not in {"refusal", "tool_calls"}} for m in found)
    ]


def _merged(found: list[JSON]) -> list[JSON]:
    merged: list[JSON] = []
    for one in found:
        if merged and merged[-1]["role"] == one["role"]:
            merged[-1]["content"] += f"\n{one['content']}"
        else:
            merged.append(dict(one))
    return merged


def _not_in_streams(field: str) -> Hook:
    """A server whose whole answers alone ignore a field."""
    return lambda value, call: value if value.get("stream") else forgets(field)(value, call)


def _add(rule: str, behaviour: Behaviour) -> None:
    mutant(f"effects.chat.{rule}", behaviour)


for field, rules in FIELDS.items():
    for name in rules:
        _add(name, Behaviour(f"{field} dropped", request=forgets(field)))
_add("temperature", Behaviour("always hot", request=put(1.5, "temperature")))
_add("tool_description", without_in_tools("description"))
_add("tool_parameters", without_in_tools("parameters"))
_add("allowed_tools", Behaviour("every tool allowed", request=body(allows_every_tool)))
_add("reasoning_effort", Behaviour("dropped", request=_not_in_streams("reasoning_effort")))
_add("reasoning_effort", Behaviour("always high", request=put("high", "reasoning_effort")))
_add("every_message", Behaviour("the last two", request=messages(lambda found: found[-2:])))
_add("every_message", Behaviour("no system", request=messages(lambda found: found[1:] or found)))
_add("long_prompt", Behaviour("cut at the end", request=contents(lambda text: text[:500])))
_add("long_prompt", Behaviour("cut at the beginning", request=contents(lambda text: text[-500:])))
_add("longer_prompt", Behaviour("cut at the end", request=contents(lambda text: text[:20_000])))
for _rule in ("refusal", "refusal_part", "tool_call_in_history"):
    _add(_rule, Behaviour("without it", request=messages(texts_alone)))
_add("beyond_ascii", Behaviour("ASCII", request=contents(_in_ascii)))
_add("upper_case", Behaviour("lower case", request=contents(str.lower)))
_add("whitespace", Behaviour("one space", request=contents(lambda text: " ".join(text.split()))))
_add("separate_messages", Behaviour("merged", request=messages(_merged)))
