"""What a run used, summed over every request that its step files tell of."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from llmengine.telemetry.usage import total_cost
from llmengine.types.outputs import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmengine.pipeline.rows import Row
    from llmengine.telemetry.usage import Money

_TOKENS = tuple(field.name for field in fields(Usage))
_COUNTS = ("answered", "failed", "attempts", "without_usage")


def usage_of(steps: Mapping[str, Iterable[Row]]) -> dict[str, Any]:
    """Counts of each step and of all.

    ``answered`` and ``failed`` count records by their last line; ``attempts`` and tokens count
    all lines, so that failures which a resumed run mended are paid for. ``without_usage`` counts
    lines that were sent and whose tokens no server told: where it is not 0, tokens are a lower
    bound. Tokens are None where nothing is known. ``cost`` is in ``currency``, and None where any
    part of it is unknown or in another currency.
    """
    counted = {step: _count(rows) for step, rows in steps.items()}
    return {"steps": counted, "total": _total(list(counted.values()))}


def _count(rows: Iterable[Row]) -> dict[str, Any]:
    ended: dict[str, bool] = {}
    counts: dict[str, Any] = dict.fromkeys(_COUNTS, 0) | dict.fromkeys(_TOKENS)
    money: Money = (0.0, None)
    for row in rows:
        money = total_cost([money, (row.get("cost"), row.get("currency"))])
        ended[row["id"]] = row["error"] is None
        counts["attempts"] += row["attempts"]
        counts["without_usage"] += bool(row["attempts"]) and not row["usage"]
        for name in _TOKENS:
            counts[name] = _sum([counts[name], (row["usage"] or {}).get(name)])
    counts["cost"], counts["currency"] = money
    counts["answered"] = sum(ended.values())
    counts["failed"] = len(ended) - counts["answered"]
    return counts


def _total(counts: list[dict[str, Any]]) -> dict[str, Any]:
    summed = {name: sum(count[name] for count in counts) for name in _COUNTS}
    tokens = {name: _sum(count[name] for count in counts) for name in _TOKENS}
    cost, currency = total_cost((count["cost"], count["currency"]) for count in counts)
    return summed | tokens | {"cost": cost, "currency": currency}


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
