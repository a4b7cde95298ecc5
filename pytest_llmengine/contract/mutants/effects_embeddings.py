"""Mutants of effects.embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import body, forgets
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON


def _turned(reply: JSON) -> None:
    """Vectors that depend on their place in the list."""
    for index, entry in enumerate(reply["data"]):
        entry["embedding"] = entry["embedding"][index:] + entry["embedding"][:index]


def _one_more_per_list(reply: JSON) -> None:
    for key in ("prompt_tokens", "total_tokens"):
        reply["usage"][key] += len(reply["data"]) > 1


mutant("effects.embeddings.dimensions", Behaviour("dropped", request=forgets("dimensions")))
mutant("effects.embeddings.order", Behaviour("turned by place", reply=body(_turned)))
mutant("effects.embeddings.usage_sum", Behaviour("one more", reply=body(_one_more_per_list)))
mutant("effects.embeddings.user", Behaviour("user dropped", request=forgets("user")))
