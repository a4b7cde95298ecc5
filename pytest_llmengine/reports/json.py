"""The JSON report: writing and reading it; ``docs/report-schema.md`` describes its fields."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from llmengine.config.documents import DocumentError, load_json, read_text
from llmengine.types.errors import ConfigError
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.reports.model import CheckRecord, ContractReport, Header
from pytest_llmengine.reports.schema import SCHEMA_VERSION, JSONReport
from pytest_llmengine.reports.schema_matrix import schema_verdicts

if TYPE_CHECKING:
    from pathlib import Path


def to_object(report: ContractReport) -> dict[str, Any]:
    """The report as a JSON object; its version is raised when a field is renamed or removed."""
    follows = report.follows
    matrix = schema_verdicts(report)
    return {
        "schema_version": SCHEMA_VERSION,
        "provenance": asdict(report.header),
        "summary": report.summary(),
        "checks": [
            record.to_dict() | {"follows": follows.get(record.id, "")} for record in report.checks
        ],
        **({"schema_features": matrix} if matrix else {}),
    }


def to_json(report: ContractReport) -> str:
    """The report as JSON text, ready to be written to a file."""
    return json.dumps(to_object(report), indent=2, ensure_ascii=False) + "\n"


_WRITE_ONE = "write one with `llmengine verify --report FILE.json`"
NEVER_ACCEPTED = frozenset({Outcome.FAIL, Outcome.IGNORED, Outcome.ERROR, Outcome.NOT_RUN})


def read_report(path: Path) -> ContractReport:
    """The report in a JSON file.

    Raises ConfigError that names the file if it is not a report, or has another schema version.
    """
    return report_of(read_object(path), path)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in the file of a report, of which only the version was checked.

    Raises ConfigError that names the file if it is not a report of this version.
    """
    try:
        text = read_text(path)
    except DocumentError as error:
        raise ConfigError(f"{path}: not a JSON report: {error}; {_WRITE_ONE}") from error
    return load_report(text, path)


def parse_report(text: str, source: object) -> ContractReport:
    """The report in a JSON text; raises ConfigError that names the source."""
    return report_of(load_report(text, source), source)


def load_report(text: str, source: object) -> dict[str, Any]:
    """The JSON object of a report, of which only the version was checked.

    Raises ConfigError that names the source if it is not a report of this version.
    """
    try:
        data = load_json(text)
    except DocumentError as error:
        raise ConfigError(f"{source}: not a JSON report: {error}; {_WRITE_ONE}") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version is None:
        raise ConfigError(f"{source}: not a report of the contract; {_WRITE_ONE}")
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"{source}: its schema_version is {version}, and this llmengine reads "
            f"{SCHEMA_VERSION}; run the check again with this version"
        )
    report: dict[str, Any] = data
    return report


def report_of(data: dict[str, Any], source: object) -> ContractReport:
    """The report in a JSON object; raises ConfigError that names the source and the field."""
    try:
        JSONReport.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{source}: not a complete report: {place}: {first['msg']}; {_WRITE_ONE}"
        ) from None
    report = to_report(data)
    for record in report.checks:
        if record.accepted and record.outcome in NEVER_ACCEPTED:
            raise ConfigError(
                f"{source}: not a complete report: {record.id} is {record.outcome}, but accepted; "
                f"{_WRITE_ONE}"
            )
    return report


def to_report(data: dict[str, Any]) -> ContractReport:
    """The report in a JSON object that has the report's schema."""
    records = tuple(map(CheckRecord.from_dict, data["checks"]))
    return ContractReport(_header(data["provenance"]), records)


def _header(provenance: dict[str, Any]) -> Header:
    """The header; a field of a later version is ignored, and a field that is absent is empty."""
    names = [field.name for field in fields(Header)]
    return Header(**{name: provenance[name] for name in names if name in provenance})
