"""Sums of money that do not hide what is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Money = tuple[float | None, str | None]


def total_cost(parts: Iterable[Money]) -> Money:
    """The sum of amounts, each with its currency, and the currency of the sum.

    Both are None if an amount is, or if two amounts are in different currencies. A part without a
    currency is one for which nothing was sent.
    """
    total, currency = 0.0, None
    for amount, unit in parts:
        mixed = currency is not None and unit not in {None, currency}
        if amount is None or mixed:
            return None, None
        total, currency = total + amount, currency or unit
    return total, currency
