"""The review of a report that someone else made: whether it is complete, consistent and true."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from llmengine.types.hosts import internal_hosts
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import DEVIANT
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.contract.runner import ALWAYS_ACCEPTED
from pytest_llmengine.recording.redaction import Redaction
from pytest_llmengine.reports.json import NEVER_ACCEPTED, to_report
from pytest_llmengine.reports.page import Cell, Page, Table, one_line
from pytest_llmengine.reports.schema import JSONReport
from pytest_llmengine.reports.second_verdict import second_verdicts
from pytest_llmengine.version import tool_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_llmengine.reports.model import CheckRecord, ContractReport
    from pytest_llmengine.reports.second_verdict import SecondVerdict


@dataclass(frozen=True, slots=True)
class ReportProblem:
    """What is wrong with a report, and where: the id of a check, or the path of a field."""

    place: str
    what: str


@dataclass(frozen=True, slots=True)
class Review:
    """The problems of a report, the rules that it has and we do not, and the second verdicts."""

    problems: tuple[ReportProblem, ...]
    unknown: tuple[str, ...] = ()
    verdicts: tuple[SecondVerdict, ...] = ()


def review(data: dict[str, Any]) -> Review:
    """Review the JSON object of a report; a report with a wrong schema is not read any further."""
    try:
        JSONReport.model_validate(data)
    except ValidationError as error:
        return Review(tuple(_schema_problems(error)))
    report = to_report(data)
    verdicts = tuple(second_verdicts(report))
    problems = [
        *_rule_problems(report),
        *_summary_problems(data, report),
        *(p for record in report.checks for p in _record_problems(record)),
        *_leaks("provenance", [text for text in asdict(report.header).values() if text]),
        *map(_wrong_verdict, (verdict for verdict in verdicts if not verdict.agrees)),
    ]
    known = catalogue()
    unknown = tuple(record.id for record in report.checks if record.id not in known)
    return Review(tuple(problems), unknown, verdicts)


_MOST_PROBLEMS = 50  # of the schema, where one mistake may repeat in each check


def _schema_problems(error: ValidationError) -> Iterator[ReportProblem]:
    for one in islice(error.errors(include_url=False), _MOST_PROBLEMS):
        yield ReportProblem(".".join(map(str, one["loc"])), one["msg"])


def _rule_problems(report: ContractReport) -> Iterator[ReportProblem]:
    """Ids that occur twice or are not in the catalogue, and other facts about their rules.

    A report of another version of this tool may have other rules, levels and tiers.
    """
    for id_, count in Counter(record.id for record in report.checks).items():
        if count > 1:
            yield ReportProblem(id_, f"the check is in the report {count} times")
    if report.header.tool_version != tool_version():
        return
    known = catalogue()
    for record in report.checks:
        if (check := known.get(record.id)) is None:
            yield ReportProblem(
                record.id, "no such rule is known; if it is your own, give --rules FILE"
            )
            continue
        rule = (check.group, check.level.value, check.tier.name.lower())
        if rule != (record.group, record.level, record.tier):
            yield ReportProblem(
                record.id, f"group, level and tier of the rule are {', '.join(rule)}"
            )


def _summary_problems(data: dict[str, Any], report: ContractReport) -> Iterator[ReportProblem]:
    """Counts and causes that do not fit the verdicts."""
    summary, written = (_counts(part) for part in (report.summary(), data["summary"]))
    for name, count in summary.items():
        if (told := written.get(name, count)) != count:
            yield ReportProblem(f"summary.{name}", f"it is {told}, and the checks give {count}")
    follows = report.follows
    for row in data["checks"]:
        if row.get("follows", "") not in {"", follows.get(row["id"], "")}:
            yield ReportProblem(row["id"], f"it does not follow from {row['follows']}")


def _counts(summary: dict[str, Any]) -> dict[str, int]:
    """The counts of a summary by name, without the seconds."""
    outcomes = {f"outcomes.{name}": count for name, count in summary["outcomes"].items()}
    return {k: v for k, v in summary.items() if k not in {"outcomes", "seconds"}} | outcomes


def _record_problems(record: CheckRecord) -> Iterator[ReportProblem]:
    """What is wrong with one verdict."""
    outcome, observed = record.outcome, record.observed
    if not record.accepted and outcome in {*ALWAYS_ACCEPTED, Outcome.UNRECORDED}:
        yield ReportProblem(record.id, f"{outcome} is always accepted")
    if record.accepted and outcome in NEVER_ACCEPTED:
        yield ReportProblem(record.id, f"{outcome} is never accepted")
    if outcome is Outcome.DEVIATES and observed not in DEVIANT:
        yield ReportProblem(record.id, f"a known deviation was not observed, but {observed}")
    if outcome is Outcome.PASS and observed is not Outcome.PASS:
        yield ReportProblem(record.id, f"it passes, but {observed} was observed")
    if outcome is not Outcome.PASS and not record.reason:
        yield ReportProblem(record.id, f"{outcome} has no reason")
    if observed in {*DEVIANT, Outcome.LENIENT} and not record.exchanges:
        yield ReportProblem(record.id, f"{observed} has no exchange that shows it")
    texts = [record.reason, record.fact]
    for exchange in record.exchanges:
        texts += [exchange["request_body"], exchange["response_body"], exchange["path"]]
        headers = {**exchange.get("request_headers", {}), **exchange["response_headers"]}
        texts += [f'"{name}": "{value}"' for name, value in headers.items()]
    yield from _leaks(record.id, texts)


# The beginnings of keys that are found without their names, as providers document them.
_KEY = re.compile(
    r"\b(?:sk-[\w-]{20,}|hf_\w{20,}|gh[pousr]_\w{20,}|AKIA[A-Z0-9]{16}|AIza[\w-]{30,}"
    r"|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+|Bearer [\w.~+/-]{20,})"
)


def _leaks(place: str, texts: Iterable[str]) -> Iterator[ReportProblem]:
    """Keys and private addresses in texts; a key itself is never in the message."""
    redaction = Redaction()
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        if _KEY.search(text) or redaction.body(raw) != raw:
            yield ReportProblem(
                place, "a text holds what looks like a key; remove it, and revoke it"
            )
            return
    for text in texts:
        if hosts := internal_hosts(text):
            yield ReportProblem(place, f"a text holds an address of a private network: {hosts[0]}")
            return


def _wrong_verdict(verdict: SecondVerdict) -> ReportProblem:
    record = verdict.record
    reason = f": {one_line(verdict.reason)}" if verdict.reason else ""
    return ReportProblem(
        record.id,
        f"the report says {record.observed}, and its exchanges give {verdict.outcome}{reason}",
    )


_LONGEST = 160  # characters per cell


def review_page(source: str, found: Review) -> Page:
    """The review as a page; the page is good if there is no problem."""
    judged = sum(verdict.outcome is not None for verdict in found.verdicts)
    reasons = Counter(verdict.reason for verdict in found.verdicts if verdict.outcome is None)
    rows = tuple((Cell(one_line(p.place)), Cell(one_line(p.what))) for p in found.problems)
    later = [(Cell(id_), Cell("this version does not have the rule")) for id_ in found.unknown]
    counts = [(Cell(str(count)), Cell(reason)) for reason, count in reasons.most_common()]
    tables = (
        (("place", "problem"), rows, f"Problems ({len(rows)})"),
        (("rule", "why"), tuple(later), f"Rules of another version ({len(later)})"),
        (("verdicts", "why"), tuple(counts), "Cannot be judged again"),
    )
    text = f"{judged} of {len(found.verdicts)} verdicts that are not a pass were judged again"
    problems = "1 problem" if len(rows) == 1 else f"{len(rows)} problems"
    return Page(
        title="Review of a report",
        lines=(source,),
        summary=f"{text}; {problems}" if rows else f"{text}, and agree; no problem found",
        good=not rows,
        blocks=tuple(
            Table(heads, cells, title, longest=_LONGEST) for heads, cells, title in tables if cells
        ),
    )
