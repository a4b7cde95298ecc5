"""Mutants of chat.basic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON, Call


def _without_created(body: JSON, call: Call) -> JSON:
    body.pop("created", None)
    return body


mutant("chat.basic.required_fields", Behaviour("no created", reply=_without_created))
