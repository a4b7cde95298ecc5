"""What a run costs."""

from __future__ import annotations

from dataclasses import replace

from pytest_llmengine.contract.costs import cost_of, measured_costs
from pytest_llmengine.contract.registry import catalogue, select


def test_every_shipped_check_has_a_cost() -> None:
    """The file is fresh: ``python tools/contract_costs.py`` writes it."""
    shipped = {check.id for check in catalogue().values() if check.own_file is None}
    assert set(measured_costs()) == shipped


def test_the_cost_of_checks_is_their_sum() -> None:
    """Requests, bytes and tokens add up."""
    checks = select(ids=["chat.basic", "models"])
    assert cost_of(checks).requests == sum(measured_costs()[c.id].requests for c in checks) > 10


def test_a_rule_without_a_measured_cost_costs_nothing() -> None:
    """The estimate leaves out the rules of a user."""
    (check,) = select(ids=["chat.basic.object_const"])
    assert cost_of([check, replace(check, id="acme.rule")]) == cost_of([check])
