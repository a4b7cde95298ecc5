"""Mutants of effects.stream: servers whose streams alone ignore a field."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.effects_chat import FIELDS, allows_every_tool, texts_alone
from pytest_llmengine.contract.mutants.hooks import (
    body,
    choices,
    chunks,
    forgets,
    in_streams,
    messages,
    mutated,
    put,
)
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from pytest_llmengine.contract.mutants.hooks import Hook

_MORE = {
    "logit_bias": ("logit_bias",),
    "seed": ("seed",),
    "max_tokens": ("max_tokens",),
    "max_completion_tokens": ("max_completion_tokens",),
    "stop": ("stop", "stop_n"),
    "logprobs": ("logprobs", "logprobs_n"),
    "top_logprobs": ("logprobs_n", "top_logprobs"),
    "tool_choice": ("tool_choice_named", "tool_choice_none", "tool_choice_required"),
    "parallel_tool_calls": ("parallel_tool_calls",),
    "response_format": ("response_format",),
    "service_tier": ("service_tier",),
    "store": ("store",),
    "metadata": ("store",),
    "stream_options": ("include_obfuscation",),
}


def _add(rule: str, name: str, request: Hook) -> None:
    mutant(f"effects.stream.{rule}", Behaviour(name, request=in_streams(request)))


for field, rules in (FIELDS | _MORE).items():
    for rule in rules:
        if rule != "logit_bias_ban":
            _add(rule, f"{field} dropped", forgets(field))


def _first_parts(found: list[JSON]) -> list[JSON]:
    return [
        m | {"content": m["content"][:1]} for m in found if isinstance(m["content"], list)
    ] or found


_chance = count()
_add("temperature", "always hot", put(1.5, "temperature"))
_add("seed", "a seed by chance", lambda request, _: {**request, "seed": next(_chance)})
_add("system", "no system", messages(lambda found: found[-1:]))
_add("history", "the last message alone", messages(lambda found: found[-1:]))
for rule in ("refusal", "refusal_part", "tool_call_in_history"):
    _add(rule, "without it", messages(texts_alone))
_add("text_parts", "the first part alone", messages(_first_parts))
_add("allowed_tools", "every tool allowed", body(allows_every_tool))
_add("reasoning_effort", "always high", put("high", "reasoning_effort"))


def _second_text_goes_on(choice: JSON) -> None:
    if choice["index"] and choice["finish_reason"]:
        choice["delta"]["content"] = " and so on"


def _first_logprobs_alone(choice: JSON) -> None:
    if choice["index"]:
        choice["logprobs"] = None


mutant(
    "effects.stream.stop_n",
    Behaviour("the first choice alone", events=choices(_second_text_goes_on)),
)
mutant(
    "effects.stream.logprobs_n",
    Behaviour("the first choice alone", events=choices(_first_logprobs_alone)),
)
mutant(
    "effects.stream.include_obfuscation",
    Behaviour("always", events=chunks(lambda chunk: chunk.update(obfuscation="xx"))),
)
mutant(
    "effects.stream.include_obfuscation",
    mutated("POST /chat/completions stream", "text", "obfuscation", "as number"),
)
mutant(
    "effects.stream.service_tier",
    Behaviour("another tier", events=chunks(lambda chunk: chunk.update(service_tier="flex"))),
)
