"""The JSON report: writing and reading it; ``docs/report-schema.md`` describes its fields."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from llmengine.types.errors import ConfigError
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.reports.model import CheckRecord, ContractReport, Header
from pytest_llmengine.reports.schema_matrix import schema_verdicts

if TYPE_CHECKING:
    from pathlib import Path


SCHEMA_VERSION = 1


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
_NEVER_ACCEPTED = frozenset({Outcome.FAIL, Outcome.IGNORED, Outcome.ERROR, Outcome.NOT_RUN})


def read_report(path: Path) -> ContractReport:
    """The report in a JSON file.

    Raises ConfigError that names the file if it is not a report, or has another schema version.
    """
    from llmengine.config.documents import (  # noqa: PLC0415 - keeps --help fast
        DocumentError,
        load_json,
        read_text,
    )

    try:
        data = load_json(read_text(path))
    except DocumentError as error:
        raise ConfigError(f"{path}: not a JSON report: {error}; {_WRITE_ONE}") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version is None:
        raise ConfigError(f"{path}: not a report of the contract; {_WRITE_ONE}")
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"{path}: its schema_version is {version}, and this llmengine reads {SCHEMA_VERSION}; "
            "run the check again with this version"
        )
    try:
        checks = tuple(_record(row) for row in data["checks"])
        return ContractReport(_header(data["provenance"]), checks)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: not a complete report: {error!r}; {_WRITE_ONE}") from error


def _header(provenance: dict[str, Any]) -> Header:
    named = {"name": "", **provenance}
    named = {field.name: named[field.name] for field in fields(Header)}
    for name, value in named.items():
        _expect(value, (str, type(None)) if name == "version" else str, name)
    return Header(**named)


def _record(row: dict[str, Any]) -> CheckRecord:
    record = CheckRecord.from_dict(row)
    for name in ("id", "group", "level", "tier", "reason"):
        _expect(getattr(record, name), str, name)
    _expect(record.accepted, bool, "accepted")
    _expect(record.seconds, (int, float), "seconds")
    if record.accepted and record.outcome in _NEVER_ACCEPTED:
        raise ValueError(f"{record.id} is {record.outcome}, but accepted")
    for exchange in record.exchanges:
        _expect(exchange, dict, "exchanges")
    return record


def _expect(value: object, kind: type | tuple[type, ...], name: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {value!r}")
