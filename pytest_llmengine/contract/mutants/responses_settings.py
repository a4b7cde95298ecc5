"""Mutants of resp.echo and resp.invalid: each drops a field, of whole or of streamed requests."""

from __future__ import annotations

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.checks.responses_settings import ECHOES, INVALID
from pytest_llmengine.contract.mutants.hooks import body, dropping_each, rule_off
from pytest_llmengine.contract.mutants.registry import mutant

for _name in ECHOES:
    dropping_each(f"resp.echo.{_name}", _name)

for _name, _row in INVALID.items():
    dropping_each(f"resp.invalid.{_name}", _row.field)

mutant(
    "resp.echo.metadata", Behaviour("no metadata", reply=body(lambda b: b.pop("metadata", None)))
)
mutant("resp.echo.tools", Behaviour("tools lost", reply=body(lambda b: b["tools"].clear())))
rule_off("resp.invalid.stream_options")
