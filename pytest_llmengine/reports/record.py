"""One verdict as plain values, so that it can cross a process border or be written down."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from llmengine.types.secrets import MASK, is_secret_name, scrub
from pytest_llmengine.contract.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmengine.contract.runner import CheckResult
    from pytest_llmengine.contract.target import HTTPExchange

# Enough for any answer that a person reads; the overlong prompts of some checks are far longer.
_MAX_BODY = 10_000


@dataclass(frozen=True, slots=True)
class CheckRecord:
    """The verdict of one check; ``to_dict`` gives what JSON can hold, ``from_dict`` takes it back.

    ``seconds`` is the check's own time. ``exchanges`` is what went over the wire, redacted and
    with overlong bodies cut; a pass keeps none.
    """

    id: str
    group: str
    level: str
    tier: str
    outcome: Outcome
    reason: str
    accepted: bool
    seconds: float
    exchanges: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, result: CheckResult) -> Self:
        """The record of a result, without anything alive or secret in it."""
        passed = result.outcome is Outcome.PASS
        return cls(
            id=result.check.id,
            group=result.check.group,
            level=result.check.level.value,
            tier=result.check.tier.name.lower(),
            outcome=result.outcome,
            reason=scrub(result.reason),
            accepted=result.accepted,
            seconds=round(result.seconds, 4),
            exchanges=() if passed else tuple(_exchange(e) for e in result.exchanges),
        )

    def to_dict(self) -> dict[str, Any]:
        """The record as a JSON object; ``exchanges`` is left out of a pass."""
        row: dict[str, Any] = {
            "id": self.id,
            "group": self.group,
            "level": self.level,
            "tier": self.tier,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "accepted": self.accepted,
            "seconds": self.seconds,
        }
        if self.outcome is not Outcome.PASS:
            row["exchanges"] = [dict(e) for e in self.exchanges]
        return row

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """The record that ``to_dict`` wrote; what a later version has added is passed over."""
        known = {field.name: row[field.name] for field in fields(cls) if field.name in row}
        return cls(
            **{
                **known,
                "outcome": Outcome(row["outcome"]),
                "exchanges": tuple(row.get("exchanges", ())),
            }
        )


def _exchange(exchange: HTTPExchange) -> dict[str, Any]:
    return {
        "method": exchange.method,
        "path": exchange.path,
        "request_body": _cut(scrub(exchange.request_body)),
        "status": exchange.status,
        "response_headers": _headers(exchange.response_headers),
        "response_body": _cut(scrub(exchange.response_body)),
        "seconds": round(exchange.seconds, 4),
    }


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {k: MASK if is_secret_name(k, "header") else scrub(v) for k, v in headers.items()}


def _cut(body: str) -> str:
    if len(body) <= _MAX_BODY:
        return body
    return f"{body[:_MAX_BODY]}... ({len(body) - _MAX_BODY} more characters)"
