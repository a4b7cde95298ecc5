"""The picture of the README shows what the reports say."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import matrix_picture  # in tools/

from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.reports.model import CheckRecord, ContractReport, Header

HEADER = Header(
    **dict.fromkeys(("engine", "version", "model", "mode", "describe", "tier", "date"), "x"),
    tool_version="1",
)


def _report(outcomes: dict[str, list[Outcome]]) -> ContractReport:
    records = [
        CheckRecord(f"{group}.{i}", group, "required", "core", outcome, "", True, 0.0)
        for group, found in outcomes.items()
        for i, outcome in enumerate(found)
    ]
    return ContractReport(HEADER, tuple(records))


def _texts(svg: str) -> list[str]:
    return [text.text or "" for text in ET.fromstring(svg).iterfind(".//{*}text")]


def test_cells_count_the_rules_of_an_area() -> None:
    """Subgroups are added up; what is refused or unmeasured is not counted as broken."""
    one = {
        "chat": [Outcome.PASS, Outcome.LENIENT, Outcome.UNMEASURED],
        "chat.stream": [Outcome.DEVIATES, Outcome.IGNORED, Outcome.FAIL, Outcome.REFUSED],
        "embeddings": [Outcome.REFUSED, Outcome.UNMEASURED],
        "net": [Outcome.UNMEASURED],
    }
    svg = matrix_picture.picture({"a <1>": _report(one), "b": _report({"chat": [Outcome.PASS]})})

    areas = ["chat", "2 of 5", "1 of 1", "embeddings", "refused", "not measured"]
    assert _texts(svg)[:-1] == ["a", "<1>", "b", *areas]


def test_committed_picture_is_fresh() -> None:
    """It shows the newest shipped reports."""
    committed = matrix_picture.PICTURE.read_text("utf-8")
    assert committed == matrix_picture.drawn(), "run tools/matrix_picture.py"
