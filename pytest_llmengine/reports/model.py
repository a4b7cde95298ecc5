"""The report of a run as plain values: its header and the record of each check."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from llmengine.types.secrets import MASK, is_secret_name, scrub
from pytest_llmengine.contract import facts
from pytest_llmengine.contract.outcomes import Outcome, shortened
from pytest_llmengine.contract.registry import Level
from pytest_llmengine.version import tool_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmengine.contract.registry import Tier
    from pytest_llmengine.contract.runner import CheckResult
    from pytest_llmengine.contract.target import HTTPExchange
    from pytest_llmengine.targets import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What was tested, how, when, and by which version of this tool.

    ``describe`` says where the answers come from, such as "replayed from llama.cpp b11549
    (smollm2-135m), recorded 2026-11-21". ``mode`` is live, record, replay or docker. ``date`` is
    the start of the run in ISO 8601 (UTC). ``version`` is the engine's version, None if it is
    unknown. ``name`` is what people call the server: the name that the user gave, else the name of
    the server program, else its host and port; "" in a report of an older version of this tool.
    """

    engine: str
    version: str | None
    model: str
    mode: str
    describe: str
    tier: str
    date: str
    tool_version: str
    name: str = ""

    @property
    def label(self) -> str:
        """The name of the server, or that of the engine if the report has no name."""
        return self.name or self.engine


_LEVELS = [level.value for level in Level]


def level_rank(level: str) -> int:
    """The place of a level, required first; levels of later versions come last."""
    return _LEVELS.index(level) if level in _LEVELS else len(_LEVELS)


# Characters. Enough for any answer that someone reads; some checks send far longer prompts.
_MAX_BODY = 10_000


@dataclass(frozen=True, slots=True)
class CheckRecord:
    """The verdict of one check as plain values, for JSON and for other processes.

    ``seconds`` is the time that the check took. ``exchanges`` are its HTTP exchanges, with keys
    removed and long bodies cut; a check that passes has none. ``fact`` is the cause of the verdict.
    ``observed`` is the outcome before the profile was applied.
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
    fact: str = ""
    observed: Outcome = Outcome.PASS

    @classmethod
    def of(cls, result: CheckResult) -> Self:
        """The record of a result, without objects of the run and without secrets."""
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
            fact=result.fact,
            observed=result.observed,
        )

    def to_dict(self) -> dict[str, Any]:
        """The record as a JSON object; without ``exchanges`` if the check passed."""
        row: dict[str, Any] = {
            "id": self.id,
            "group": self.group,
            "level": self.level,
            "tier": self.tier,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "accepted": self.accepted,
            "seconds": self.seconds,
            "fact": self.fact,
            "observed": self.observed.value,
        }
        if self.outcome is not Outcome.PASS:
            row["exchanges"] = [dict(e) for e in self.exchanges]
        return row

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """The record from the output of ``to_dict``; fields of later versions are ignored."""
        known = {field.name: row[field.name] for field in fields(cls) if field.name in row}
        return cls(
            **{
                **known,
                "outcome": Outcome(row["outcome"]),
                "observed": Outcome(row.get("observed", row["outcome"])),
                "exchanges": tuple(row.get("exchanges", ())),
            }
        )


def _exchange(exchange: HTTPExchange) -> dict[str, Any]:
    return {
        "method": exchange.method,
        "path": exchange.path,
        **({"root": True} if exchange.root else {}),
        **({"request_headers": own} if (own := _own_headers(exchange.request_headers)) else {}),
        "request_body": shortened(scrub(exchange.request_body), _MAX_BODY),
        "status": exchange.status,
        "response_headers": _headers(exchange.response_headers),
        "response_body": shortened(scrub(exchange.response_body), _MAX_BODY),
        "seconds": round(exchange.seconds, 4),
    }


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {k: MASK if is_secret_name(k, "header") else scrub(v) for k, v in headers.items()}


def _own_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a request; keys other than the server's own are hidden."""
    scrubbed = {name: scrub(value) for name, value in headers.items()}
    return {
        name: "[hidden]"
        if is_secret_name(name, "header") and value and MASK not in value
        else value
        for name, value in scrubbed.items()
    }


class Section(StrEnum):
    """The sections of a report for verdicts other than a pass; failures have their own section."""

    FAILED = "Not accepted"
    DEVIATES = "Known deviations"
    REFUSED = "Refused, and not claimed by the profile"
    LENIENT = "Accepts more than OpenAI"
    UNMEASURED = "Not measured"
    NOT_RUN = "Not run"
    UNRECORDED = "Not recorded yet"


@dataclass(frozen=True, slots=True)
class ContractReport:
    """A header and the records of a run, in the order of the catalogue."""

    header: Header
    checks: tuple[CheckRecord, ...]

    @property
    def accepted(self) -> bool:
        """Whether every verdict is accepted; False for a run without checks."""
        return bool(self.checks) and all(c.accepted for c in self.checks)

    @property
    def outcomes(self) -> dict[Outcome, int]:
        """How often each outcome occurs; 0 for outcomes that do not occur."""
        counted = Counter(c.outcome for c in self.checks)
        return {outcome: counted[outcome] for outcome in Outcome}

    @property
    def groups(self) -> dict[str, dict[Outcome, int]]:
        """The count of each outcome per group, in the order of the run."""
        rows: dict[str, dict[Outcome, int]] = {}
        for record in self.checks:
            row = rows.setdefault(record.group, dict.fromkeys(Outcome, 0))
            row[record.outcome] += 1
        return rows

    @property
    def sections(self) -> dict[Section, list[CheckRecord]]:
        """The records that are not a pass, by section; required rules come first in each.

        Empty sections are left out.
        """
        found: dict[Section, list[CheckRecord]] = {section: [] for section in Section}
        for record in sorted(self.checks, key=lambda check: level_rank(check.level)):
            if record.outcome is not Outcome.PASS:
                found[_section(record)].append(record)
        return {section: records for section, records in found.items() if records}

    @property
    def follows(self) -> dict[str, str]:
        """The id of the cause for each verdict that follows from an earlier one.

        The first verdict with a fact is the cause of the later ones with the same fact. A verdict
        with several facts follows if each of them is known, in one of its forms.
        """
        causes: dict[str, str] = {}
        found: dict[str, str] = {}
        for record in self.checks:
            parts = [p.split(facts.OR) for p in record.fact.split(facts.AND)] if record.fact else []
            known = [[causes[name] for name in names if name in causes] for names in parts]
            if known and all(known):
                found[record.id] = known[0][0]
            for shown, *_ in parts:
                causes.setdefault(shown, found.get(record.id, record.id))
        return found

    @property
    def findings(self) -> int:
        """The number of verdicts that are not accepted and do not follow from an earlier one."""
        follows = self.follows
        return sum(not c.accepted and c.id not in follows for c in self.checks)

    def summary(self) -> dict[str, Any]:
        """The counts of the JSON report."""
        return {
            "checks": len(self.checks),
            "accepted": sum(c.accepted for c in self.checks),
            "not_accepted": sum(not c.accepted for c in self.checks),
            "findings": self.findings,
            "outcomes": {str(outcome): n for outcome, n in self.outcomes.items()},
            "seconds": round(sum(c.seconds for c in self.checks), 3),
        }


def _section(record: CheckRecord) -> Section:
    if not record.accepted and record.outcome is not Outcome.NOT_RUN:
        return Section.FAILED
    return Section[record.outcome.name]


def header_of(session: Session, tier: Tier) -> Header:
    """The header of a run that starts now on this session."""
    return Header(
        engine=session.engine.name,
        version=session.provenance.version,
        model=session.engine.model,
        mode=session.mode.value,
        describe=session.describe(),
        tier=tier.name.lower(),
        date=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        tool_version=tool_version(),
        name=session.server_name,
    )
