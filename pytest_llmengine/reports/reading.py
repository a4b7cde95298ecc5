"""Reads JSON reports back."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from llmengine.values.errors import ConfigError
from pytest_llmengine.reports.as_json import SCHEMA_VERSION
from pytest_llmengine.reports.record import CheckRecord
from pytest_llmengine.reports.report import Header, Report

if TYPE_CHECKING:
    from pathlib import Path

_WRITE_ONE = "write one with `llmengine verify --report FILE.json`"


def read_report(path: Path) -> Report:
    """The report in a JSON file.

    Raises ConfigError that names the file if it is none, or one of another schema version.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
    except ValueError as error:
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
        checks = tuple(CheckRecord.from_dict(row) for row in data["checks"])
        return Report(_header(data["provenance"]), checks)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: not a whole report: {error!r}; {_WRITE_ONE}") from error


def _header(provenance: dict[str, Any]) -> Header:
    names = [field.name for field in fields(Header)]
    return Header(**{name: provenance[name] for name in names})
