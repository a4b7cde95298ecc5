"""Sums of cost and of tokens."""

from __future__ import annotations

from typing import Any

import pytest

from llmengine import Usage
from llmengine.telemetry.usage import Spending, total_cost


@pytest.mark.parametrize(
    ("parts", "total"),
    [
        ([], (0.0, None)),
        ([(1.0, "EUR"), (0.5, "EUR")], (1.5, "EUR")),
        ([(0.0, None), (1.0, "EUR"), (0.0, None)], (1.0, "EUR")),
        ([(1.0, "EUR"), (None, None)], (None, None)),
        ([(None, None), (1.0, "EUR")], (None, None)),
        ([(1.0, "EUR"), (1.0, "USD")], (None, None)),
    ],
    ids=["nothing", "one_currency", "unsent", "unknown_last", "unknown_first", "two_currencies"],
)
def test_total(parts: Any, total: Any) -> None:
    """One unknown part makes the sum unknown, currencies stay apart, and unsent calls are free."""
    assert total_cost(parts) == total


@pytest.mark.parametrize(
    ("parts", "total"),
    [
        ([], Spending()),
        ([Spending(cost=1.0, currency="EUR")], Spending(None, 1.0, "EUR")),
        (
            [Spending(Usage(1, None), 1.0, "EUR"), Spending(None, 0.5, "EUR")],
            Spending(Usage(1, None), 1.5, "EUR"),
        ),
        (
            [Spending(Usage(1, None), None), Spending(Usage(2, 3), 0.5, "EUR")],
            Spending(Usage(3, 3), None, None),
        ),
    ],
    ids=["nothing", "no_usage", "unknown_usage", "unknown_cost"],
)
def test_spending(parts: list[Spending], total: Spending) -> None:
    """Known tokens are summed, and a cost is known only if all of its parts are."""
    assert sum(parts, Spending()) == total
