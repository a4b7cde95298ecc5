"""Reports of real servers that are shipped with this package, made from recordings of them.

``python tools/known_reports.py`` writes them, each to a file ``known/NAME/VERSION.json.gz``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmengine.config.documents import read_bytes, unzip
from llmengine.types.errors import ConfigError
from pytest_llmengine.reports.json import parse_report, read_report

if TYPE_CHECKING:
    from pytest_llmengine.reports.model import ContractReport

FOLDER = Path(__file__).parent / "known"
SUFFIX = ".json.gz"


@dataclass(frozen=True, slots=True)
class KnownReport:
    """A shipped report: the name of the server, its version, and the report itself."""

    name: str
    version: str
    report: ContractReport


def known_reports(name: str = "") -> list[KnownReport]:
    """The shipped reports, by name and from the oldest version to the newest; `name` selects."""
    found = [
        KnownReport(path.parent.name, path.name.removesuffix(SUFFIX), _read(path))
        for path in sorted(FOLDER.glob(f"{name or '*'}/*{SUFFIX}"))
    ]
    return sorted(found, key=lambda one: (one.name, _numbers(one.version)))


def known_report(text: str) -> ContractReport:
    """The report that ``NAME`` (the newest version) or ``NAME@VERSION`` names.

    Raises ConfigError that lists the known ones.
    """
    name, at, version = text.partition("@")
    every = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
    if name not in every:
        raise ConfigError(f"known:{text}: no server is called {name!r}: {', '.join(every)}")
    reports = known_reports(name)
    if not at:
        return reports[-1].report
    versions = {one.version: one.report for one in reports}
    if version not in versions:
        raise ConfigError(
            f"known:{text}: there is no version {version!r} of {name}: {', '.join(versions)}"
        )
    return versions[version]


def _read(path: Path) -> ContractReport:
    return parse_report(unzip(read_bytes(path)), path)


def report_named(text: str) -> ContractReport:
    """The report that an argument of `llmengine report` names.

    ``known:NAME`` and ``known:NAME@VERSION`` are shipped reports. ``NAME=FILE`` is a file whose
    server gets that name. Any other text is the path of a file. Raises ConfigError.
    """
    if text.startswith(_KNOWN):
        return known_report(text.removeprefix(_KNOWN))
    if "=" not in text or Path(text).exists():
        return read_report(Path(text))
    name, _, source = text.partition("=")
    if not name.strip():
        raise ConfigError(f"{text}: there is no name before the =")
    report = report_named(source)
    return replace(report, header=replace(report.header, name=name.strip()))


_KNOWN = "known:"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
