"""Mutants of conc.usage."""

from __future__ import annotations

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import anothers, mixing_up
from pytest_llmengine.contract.mutants.registry import mutant

for route in ("chat", "completions", "responses", "embeddings"):
    mutant(f"conc.usage.{route}", Behaviour("the previous answer", reply=mixing_up(after=1)))
    mutant(f"conc.usage.{route}", Behaviour("the previous usage", reply=anothers("usage")))
