"""The versions of a server among several reports, and the history of a rule over them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from llmengine.types.secrets import scrub
from pytest_llmengine.reports.page import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmengine.reports.model import CheckRecord, ContractReport, Header


@dataclass(frozen=True, slots=True)
class VersionLine:
    """The reports of one server with one model, the oldest version first.

    ``places`` are the places of the reports among all.
    """

    product: str
    versions: tuple[str, ...]
    places: tuple[int, ...]

    def history(self, records: Sequence[CheckRecord | None]) -> str:
        """The outcomes of a rule by version, such as "b1 to b3 fail, b4 pass"."""
        outcomes = [
            (version, "not run" if (record := records[place]) is None else str(record.outcome))
            for version, place in zip(self.versions, self.places, strict=True)
        ]
        spans = []
        for outcome, same in groupby(outcomes, key=lambda one: one[1]):
            first, *others = [version for version, _ in same]
            spans.append(f"{f'{first} to {others[-1]}' if others else first} {outcome}")
        return f"{self.product}: {', '.join(spans)}"


def version_lines(reports: Sequence[ContractReport]) -> list[VersionLine]:
    """The servers of which there are reports of more than one version."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for place, report in enumerate(reports):
        if version := report.header.version:
            line = found.setdefault((product(report.header), report.header.model), {})
            line.setdefault(version, place)
    lines = []
    for (name, _), versions in found.items():
        if len(versions) > 1:
            ordered = sorted(versions, key=_version_key)
            shown = tuple(one_line(scrub(version)) for version in ordered)
            lines.append(VersionLine(name, shown, tuple(versions[v] for v in ordered)))
    return lines


def product(header: Header) -> str:
    """The name of the server software, such as llama.cpp; the report's label if it is unknown."""
    before = header.describe.partition(f" {header.version} (")[0]
    name = re.split(r", | from ", before)[-1]
    return one_line(scrub(name if name != header.describe else header.label))


def _version_key(version: str) -> list[tuple[int, str]]:
    """Sorts 0.9 before 0.10, and b8672 before b11549."""
    return [(int(n or -1), text) for n, text in re.findall(r"(\d{1,18})|(\D+)", version)]
