"""The report in the formats of other programs: JUnit XML, CTRF, SARIF, a badge, and a summary.

XML is only written here, and never parsed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.etree import ElementTree as ET  # nosec B405

from llmengine.types.printable import printable
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.registry import Level, catalogue
from pytest_llmengine.reports.contract_page import header_lines, summary_line
from pytest_llmengine.reports.page import Cell, Page, Table, clipped, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmengine.reports.model import CheckRecord, ContractReport

TOOL = "pytest-llmengine"

# Outcomes that say nothing about the rule.
_NOT_KNOWN = frozenset({Outcome.UNMEASURED, Outcome.UNRECORDED, Outcome.NOT_RUN})

_NO_VERDICT = frozenset({Outcome.ERROR, Outcome.NOT_RUN})


def _status(record: CheckRecord) -> str:
    """The verdict in the words that JUnit and CTRF share."""
    if record.outcome in _NO_VERDICT:
        return "error"
    if record.outcome in _NOT_KNOWN or (record.outcome is Outcome.REFUSED and record.accepted):
        return "skipped"
    return "passed" if record.accepted else "failed"


def _message(record: CheckRecord, follows: Mapping[str, str]) -> str:
    """Why the check did not pass, with the cause of a verdict that follows from another."""
    cause = follows.get(record.id)
    text = f"follows from {cause}: {record.reason}" if cause else record.reason
    return printable(text)


def _findings(report: ContractReport) -> tuple[list[CheckRecord], Counter[str]]:
    """The verdicts that are not accepted, without those that follow from another one of them.

    The counter has how many follow from each, by its id.
    """
    wrong = {record.id: record for record in report.checks if not record.accepted}
    causes = {id_: cause for id_, cause in report.follows.items() if {id_, cause} <= wrong.keys()}
    return [record for id_, record in wrong.items() if id_ not in causes], Counter(causes.values())


def to_junit(report: ContractReport) -> str:
    """The report as JUnit XML, one suite per group."""
    follows = report.follows
    counts = Counter(map(_status, report.checks))
    total = {"tests": len(report.checks), "failures": counts["failed"], "errors": counts["error"]}
    seconds = sum(record.seconds for record in report.checks)
    suites = ET.Element("testsuites", {"name": TOOL, "time": f"{seconds:.3f}", **_texts(total)})
    for group in report.groups:
        records = [record for record in report.checks if record.group == group]
        counts = Counter(map(_status, records))
        numbers = {
            "tests": len(records),
            "failures": counts["failed"],
            "errors": counts["error"],
            "skipped": counts["skipped"],
        }
        suite = ET.SubElement(
            suites,
            "testsuite",
            {
                "name": group,
                "timestamp": report.header.date,
                "time": f"{sum(record.seconds for record in records):.3f}",
                **_texts(numbers),
            },
        )
        for record in records:
            _add_case(suite, record, f"{report.header.label}.{group}", _message(record, follows))
    ET.indent(suites)
    xml = ET.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{xml}\n'


_NOT_IN_XML = re.compile("[\ufffe\uffff]")
_ELEMENTS = {"failed": "failure", "error": "error", "skipped": "skipped"}


def _add_case(suite: ET.Element, record: CheckRecord, where: str, message: str) -> None:
    names = {"classname": where, "name": record.id, "time": f"{record.seconds:.3f}"}
    case = ET.SubElement(suite, "testcase", names)
    message = _NOT_IN_XML.sub("\ufffd", message)
    if element := _ELEMENTS.get(_status(record)):
        shown = ET.SubElement(case, element, message=message, type=str(record.outcome))
        shown.text = None if element == "skipped" else message
    elif message:
        ET.SubElement(case, "system-out").text = f"{record.outcome}: {message}"


def _texts(numbers: dict[str, int]) -> dict[str, str]:
    return {name: str(number) for name, number in numbers.items()}


def to_ctrf(report: ContractReport) -> str:
    """The report in the Common Test Report Format."""
    header, follows = report.header, report.follows
    start = _milliseconds(header.date)
    duration = round(sum(record.seconds for record in report.checks) * 1000)
    statuses = [_CTRF_STATUSES.get(_status(record), _status(record)) for record in report.checks]
    counts = {name: statuses.count(name) for name in _CTRF_COUNTS}
    results = {
        "tool": {"name": TOOL, "version": header.tool_version},
        "summary": {
            "tests": len(statuses),
            **counts,
            "start": start,
            "stop": start + duration,
            "duration": duration,
        },
        "tests": [
            {
                "name": record.id,
                "status": status,
                "duration": round(record.seconds * 1000),
                "suite": [record.group],
                "rawStatus": str(record.outcome),
                "tags": [record.level, record.tier],
                **({"message": message} if (message := _message(record, follows)) else {}),
            }
            for record, status in zip(report.checks, statuses, strict=True)
        ],
        "environment": {
            "appName": header.label,
            "testEnvironment": printable(header.describe),
            **({"appVersion": header.version} if header.version else {}),
        },
    }
    return _json({"reportFormat": "CTRF", "specVersion": "1.0.0", "results": results})


_CTRF_STATUSES = {"error": "other"}
_CTRF_COUNTS = ("passed", "failed", "skipped", "pending", "other")


def _milliseconds(date: str) -> int:
    """The time of an ISO 8601 date since 1970; 0 for a text that is not a date."""
    try:
        return round(datetime.fromisoformat(date).timestamp() * 1000)
    except ValueError:
        return 0


_SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
_SARIF_LEVELS = {Level.REQUIRED: "error", Level.EXPECTED: "warning"}  # the others are notes


def to_sarif(report: ContractReport) -> str:
    """The report as SARIF 2.1.0: one result per finding, with its rule.

    A verdict that follows from another one is counted in the message of its cause. Checks without
    a verdict are notifications.
    """
    follows = report.follows
    found, later = _findings(report)
    unjudged = [r for r in report.checks if r.outcome in _NO_VERDICT]
    found = [r for r in found if r.outcome not in _NO_VERDICT]
    run = {
        "tool": {
            "driver": {
                "name": TOOL,
                "version": report.header.tool_version,
                "rules": [_sarif_rule(record) for record in found],
            }
        },
        "invocations": [
            {
                "executionSuccessful": not unjudged,
                "toolExecutionNotifications": [
                    {
                        "level": "error",
                        "message": {"text": f"{r.id}: {r.outcome}: {_message(r, follows)}"},
                    }
                    for r in unjudged
                ],
            }
        ],
        "properties": {"server": printable(report.header.describe), "tier": report.header.tier},
        "results": [
            _sarif_result(record, place, _message(record, follows), later[record.id])
            for place, record in enumerate(found)
        ],
    }
    return _json({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]})


def _sarif_rule(record: CheckRecord) -> dict[str, Any]:
    """The rule of a finding; a rule that this version does not know has only its id and level."""
    rule: dict[str, Any] = {
        "id": record.id,
        "defaultConfiguration": {"level": _sarif_level(record)},
        "properties": {"tags": [record.group, record.level]},
    }
    if (check := catalogue().get(record.id)) is None:
        return rule
    links = [citation.link for citation in check.citations]
    why = check.breaks or check.title
    return rule | {
        "shortDescription": {"text": check.title},
        "fullDescription": {"text": why},
        "help": {"text": "\n\n".join([check.title, check.breaks, f"Source: {check.source}"])},
        **({"helpUri": links[0]} if links else {}),
    }


def _sarif_result(record: CheckRecord, place: int, message: str, later: int) -> dict[str, Any]:
    """The result; its location is the endpoint, as a path, because a server has no files."""
    also = f" ({later} more {'rule fails' if later == 1 else 'rules fail'} for this reason)"
    exchange = record.exchanges[-1] if record.exchanges else {"method": "GET", "path": "/"}
    endpoint = str(exchange["path"]).partition("?")[0]
    return {
        "ruleId": record.id,
        "ruleIndex": place,
        "level": _sarif_level(record),
        "message": {"text": f"{record.outcome}: {message}{also if later else ''}"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(endpoint.strip("/")) or "server"},
                    "region": {"startLine": 1},
                },
                "logicalLocations": [
                    {"fullyQualifiedName": f"{exchange['method']} {endpoint}", "kind": "resource"}
                ],
            }
        ],
        "partialFingerprints": {"rule/v1": record.id},
        "properties": {"outcome": record.outcome, "group": record.group},
    }


def _sarif_level(record: CheckRecord) -> str:
    return _SARIF_LEVELS.get(Level(record.level), "note")


def to_badge(report: ContractReport) -> str:
    """The report as an endpoint badge of shields.io: how many of the judged rules are kept."""
    judged = [r for r in report.checks if r.outcome not in {*_NOT_KNOWN, Outcome.ERROR}]
    kept = sum(r.outcome in {Outcome.PASS, Outcome.LENIENT} for r in judged)
    wrong = [r for r in report.checks if not r.accepted]
    color = "brightgreen" if not wrong else "orange"
    if not judged or any(r.level == Level.REQUIRED for r in wrong):
        color = "red"
    return _json(
        {
            "schemaVersion": 1,
            "label": "LLM contract",
            "message": f"{kept}/{len(judged)} rules" if judged else "not measured",
            "color": color,
        }
    )


_MOST_FINDINGS = 20
_LONGEST_REASON = 200  # characters


def job_summary(report: ContractReport) -> Page:
    """The report as a short page for the summary of a CI job: its first findings, by level."""
    found, later = _findings(report)
    found.sort(key=lambda record: list(Level).index(Level(record.level)))
    rows = [
        (
            Cell(record.id),
            Cell(record.level),
            Cell(str(record.outcome)),
            Cell(clipped(one_line(record.reason), _LONGEST_REASON)),
            Cell(str(later[record.id] or "")),
        )
        for record in found[:_MOST_FINDINGS]
    ]
    shown = f", the first {_MOST_FINDINGS}" if len(found) > _MOST_FINDINGS else ""
    table = Table(
        ("rule", "level", "outcome", "why", "rules that follow"),
        tuple(rows),
        f"Findings ({len(found)}{shown})",
    )
    return Page(
        title=f"Contract: {report.header.label}",
        lines=header_lines(report),
        summary=summary_line(report),
        good=report.accepted,
        blocks=(table,) if rows else (),
    )


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
