"""The JSON report of a comparison; ``docs/parity.md`` describes its fields."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_llmengine.parity.pairs import Status
from pytest_llmengine.parity.verdict import differences, quantile, tool_call_f1

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmengine.parity.pairs import Pair
    from pytest_llmengine.parity.side import Side
    from pytest_llmengine.parity.verdict import ParityReport


SCHEMA_VERSION = 2


def to_object(report: ParityReport) -> dict[str, Any]:
    """The report as a JSON object; its version is raised when a field is renamed or removed."""
    throughput = report.throughput
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": report.verdict.value,
        "reason": report.reason,
        "hypothesis": report.hypothesis,
        "alpha": report.alpha,
        "margin": report.margin,
        "unit": report.unit.value,
        "dependence": report.dependence,
        "passes": list(report.passes),
        "notes": list(report.notes),
        "baseline": _side_object(report.baseline),
        "candidate": _side_object(report.candidate),
        "causes": [asdict(cause) for cause in report.causes],
        "criteria": [asdict(c) | {"holds": c.holds} for c in report.criteria],
        "contradictions": [asdict(one) for one in report.contradictions],
        "summary": summary_of(report.pairs),
        "kinds": {kind: summary_of(pairs) for kind, pairs in report.kinds.items()},
        "noise": [{"name": name} | summary_of(pairs) for name, pairs in report.variations.items()],
        "throughput": throughput.to_dict() if throughput is not None else None,
        "pairs": [_pair_object(report, pair) for pair in report.pairs],
    }


def to_json(report: ParityReport) -> str:
    """The report as JSON text, ready to be written to a file."""
    return json.dumps(to_object(report), indent=2, ensure_ascii=False) + "\n"


def summary_of(pairs: Sequence[Pair]) -> dict[str, Any]:
    """The counts and measured values of some pairs."""
    values = differences(pairs)
    return {
        "prompts": len(pairs),
        "compared": sum(p.compared for p in pairs),
        "same": sum(p.status is Status.SAME for p in pairs),
        "same_text": sum(p.same_text for p in pairs),
        "diverged": sum(p.status is Status.DIVERGED for p in pairs),
        "within_top": sum(p.within_top for p in pairs),
        "failed_on_one_side": sum(p.status is Status.ONE_FAILED for p in pairs),
        "failed_on_both": sum(p.status is Status.BOTH_FAILED for p in pairs),
        "fits_schema": [sum(bool(p.valid[side]) for p in pairs) for side in (0, 1)],
        "asked_for_schema": sum(p.valid[0] is not None for p in pairs),
        "tool_call_f1": tool_call_f1(pairs),
        "logprob_difference": {
            name: quantile(values, share)
            for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
        },
    }


def _side_object(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "saved_in": side.source,
        "date": side.date,
        "tool_version": side.tool_version,
        "facts": side.facts.to_dict(),
        "batch": side.batch,
        "passes": side.passes,
        "groups": len(set(side.groups)),
        "cost": asdict(side.cost),
        "prompts": {"count": len(side.prompts), "digest": side.digest},
    }


def _pair_object(report: ParityReport, pair: Pair) -> dict[str, Any]:
    """A pair as JSON; it includes both answers if they are not the same."""
    row = pair.to_dict()
    if pair.status is Status.SAME:
        return row
    answers = report.answers(pair.id)
    return row | {
        role: {"error": answer.error} if answer.error else {"text": answer.text}
        for role, answer in zip(("baseline", "candidate"), answers, strict=True)
    }
