"""Mutants of refusal.prose."""

from __future__ import annotations

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.registry import mutant

RULES = {
    "tools.name.invalid": "tools.name",
    "struct.name.invalid": "struct.json_schema.name",
    "comp.best_of.range": "comp.best_of.range",
    "comp.best_of.stream": "comp.best_of.stream",
}

for _check, _rule in RULES.items():
    mutant(_check, Behaviour(f"without the rule {_rule}", without_rules=frozenset({_rule})))
