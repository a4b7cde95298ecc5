"""Mutants of reasoning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import answer, body, choices
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON


def _renamed(choice: JSON) -> None:
    delta = choice["delta"]
    if "reasoning" in delta:
        delta["reasoning_content"] = delta.pop("reasoning")


def _in_the_content(choice: JSON) -> None:
    message = choice["message"]
    message["content"] = f"<think>{message.pop('reasoning', '')}</think>{message['content']}"


def _details(count: int) -> JSON:
    return {"completion_tokens_details": {"reasoning_tokens": count}}


mutant("reasoning.field_name", Behaviour("two names", events=choices(_renamed)))
mutant("reasoning.not_in_content", Behaviour("tags in the text", reply=answer(_in_the_content)))
mutant(
    "reasoning.not_only",
    Behaviour("no answer", reply=answer(lambda c: c["message"].update(content=""))),
)
mutant(
    "reasoning.tokens_counted",
    Behaviour("not counted", reply=body(lambda b: b["usage"].update(_details(0)))),
)
mutant(
    "reasoning.tokens_counted",
    Behaviour("more than all", reply=body(lambda b: b["usage"].update(_details(100_000)))),
)
