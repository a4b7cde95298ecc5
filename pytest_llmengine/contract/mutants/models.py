"""Mutants of models."""

from __future__ import annotations

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import put, rule_off, without
from pytest_llmengine.contract.mutants.registry import mutant

for field in ("id", "object", "created", "owned_by"):
    mutant("models.list.shape", Behaviour(f"no {field}", reply=without("data", 0, field)))
mutant("models.list.shape", Behaviour("data is null", reply=put(None, "data")))
mutant("models.list.shape", Behaviour("data is empty", reply=put([], "data")))
mutant("models.list.shape", Behaviour("no list", reply=put("models", "object")))

mutant(
    "models.retrieve",
    Behaviour("no such route", disabled_routes=frozenset({"/v1/models/{name:path}"})),
)
mutant("models.retrieve", Behaviour("another model", reply=put("another", "id")))

rule_off("models.retrieve.unknown")

mutant("models.id_usable", Behaviour("another's id", reply=put("another", "data", 0, "id")))
