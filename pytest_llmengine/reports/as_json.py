"""The report for programs; ``docs/report-schema.md`` describes it field by field."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_llmengine.reports.report import Report

SCHEMA_VERSION = 1


def to_object(report: Report) -> dict[str, Any]:
    """The report as a JSON object; its version goes up when a field is renamed or taken out."""
    return {
        "schema_version": SCHEMA_VERSION,
        "provenance": asdict(report.header),
        "summary": report.summary(),
        "checks": [record.to_dict() for record in report.checks],
    }


def to_json(report: Report) -> str:
    """The report as JSON text, ready to be written to a file."""
    return json.dumps(to_object(report), indent=2, ensure_ascii=False) + "\n"
