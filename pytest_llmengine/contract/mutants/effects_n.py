"""Mutants of effects.n: servers that ignore a field in requests for several choices."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import body, forgets
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON, ReceivedRequest
    from pytest_llmengine.contract.mutants.hooks import Hook

SHARED = ("stop", "max_tokens", "temperature", "seed", "logit_bias", "logprobs")
OF_CHAT = (*SHARED, "max_completion_tokens", "response_format", "tools", "tool_choice")
OF_COMPLETIONS = (*SHARED, "echo")
_seeds = count()


def _of_several(field: str) -> Hook:
    """Without a seed, the server takes one of its own."""

    def hook(value: JSON, call: ReceivedRequest) -> JSON:
        if value.get("n") != 2:
            return value
        left = forgets(field, "top_logprobs" if field == "logprobs" else "")(value, call)
        return {**left, "seed": next(_seeds)} if field == "seed" else left

    return hook


for prefix, fields in (("", OF_CHAT), ("completions_", OF_COMPLETIONS)):
    for field in fields:
        dropped = Behaviour(f"{field} dropped", request=_of_several(field))
        mutant(f"effects.n.{prefix}{field}", dropped)


def _texts_go_on(reply: JSON) -> None:
    for choice in reply["choices"][1:]:
        holder, key = (choice, "text") if "text" in choice else (choice["message"], "content")
        holder[key] = f"and so on, and on, and on {holder[key]}"
        choice["logprobs"] = None


for rule in ("stop", "max_tokens", "max_completion_tokens", "logprobs", "response_format"):
    alone = Behaviour("the first choice alone", reply=body(_texts_go_on))
    mutant(f"effects.n.{rule}", alone)
