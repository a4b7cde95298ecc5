"""Mutants of refusal.values."""

from __future__ import annotations

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.checks.refusal_values import REQUESTS
from pytest_llmengine.contract.mutants.hooks import crashes_on, put
from pytest_llmengine.contract.mutants.registry import mutant

for check, rule in (
    ("refusal.types.chat", "chat.wrong_type"),
    ("refusal.types.completions", "comp.wrong_type"),
    ("refusal.types.embeddings", "emb.wrong_type"),
    ("refusal.types.responses", "resp.wrong_type"),
    ("refusal.enums.chat", "chat.fields"),
    ("refusal.enums.embeddings", "emb.encoding_format"),
    *((f"refusal.model.{name}", "err.unknown_model") for name in REQUESTS),
):
    mutant(check, Behaviour(f"without the rule {rule}", without_rules=frozenset({rule})))
    mutant(check, Behaviour("refused without a word", error=put("", "error", "message")))
mutant("refusal.types.chat", Behaviour("a crash", wire=crashes_on(b'"tools"')))
