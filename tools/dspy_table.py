"""Write the feature table of docs/dspy.md from the test reports of the nox sessions.

``nox -s dspy-2.4.9 dspy-3.1.2 dspy-latest`` writes one JUnit file per DSPy version. Each outcome of
tests/integrations/dspy/test_features.py is one mark in the table.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

ENGINES = ("mock", "embedded", "vllm_api")
ROUTES = {"ours": "`to_lm`", "native": "`native_lm`"}
ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "dspy.md"
TESTS = ROOT / "tests" / "integrations" / "dspy" / "test_features.py"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->"

_CASE = re.compile(r"test_(\w+)\[(\w+)-(\w+)\]")


class Outcome(NamedTuple):
    """The outcome of one test: its mark, and the reason if the test did not simply pass."""

    mark: str
    reason: str = ""


NOT_RUN = Outcome("·", "not run")
Outcomes = dict[tuple[str, str, str], Outcome]


def read(path: Path) -> Outcomes:
    """The outcomes of one run, by feature, engine and route."""
    found = {}
    for case in ET.parse(path).iter("testcase"):  # noqa: S314 - our own file
        match = _CASE.fullmatch(case.get("name", ""))
        if match is not None and "test_features" in case.get("classname", ""):
            found[match[1], match[2], match[3]] = _outcome(case)
    return found


def _outcome(case: ET.Element) -> Outcome:
    for kind in ("failure", "error"):
        if case.find(kind) is not None:
            return Outcome("✗", "failed")
    skipped = case.find("skipped")
    if skipped is None:
        return Outcome("✓")
    reason = skipped.get("message", "").removeprefix("Skipped: ")
    return Outcome("✗" if skipped.get("type") == "pytest.xfail" else "·", reason)


def table(runs: dict[str, Outcomes]) -> str:
    """The Markdown table of all runs, by DSPy version, with its notes."""
    columns = [(version, route) for version in runs for route in ROUTES]
    head = [f"{version} {ROUTES[route]}" for version, route in columns]
    features = re.findall(r"^def test_(\w+)", TESTS.read_text("utf-8"), re.MULTILINE)
    notes: dict[str, int] = {}
    lines = [_row("feature", head), _row("---", ["---"] * len(columns))]
    for feature in features:
        cells = [_cell(runs[version], feature, route, notes) for version, route in columns]
        lines.append(_row(feature.replace("_", " "), cells))
    listed = [f"{number}. {reason}" for reason, number in notes.items()]
    return "\n".join([*lines, "", *listed, ""])


def _row(first: str, cells: list[str]) -> str:
    return f"| {first} | {' | '.join(cells)} |"


def _cell(run: Outcomes, feature: str, route: str, notes: dict[str, int]) -> str:
    """One mark per engine, with the number of its note; a single mark if all are the same."""
    outcomes = [run.get((feature, engine, route), NOT_RUN) for engine in ENGINES]
    if outcomes[0].reason and len(set(outcomes)) == 1:
        outcomes = outcomes[:1]
    return " ".join(_noted(outcome, notes) for outcome in outcomes)


def _noted(outcome: Outcome, notes: dict[str, int]) -> str:
    if not outcome.reason:
        return outcome.mark
    return f"{outcome.mark}<sup>{notes.setdefault(outcome.reason, len(notes) + 1)}</sup>"


def main() -> None:
    """Write the table between its markers in the document."""
    runs = {path.stem.removeprefix("dspy-"): read(path) for path in map(Path, sys.argv[1:])}
    if not runs:
        sys.exit("give the JUnit files, such as .nox/dspy-2.4.9.xml .nox/dspy-3.1.2.xml")
    before, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}{table(runs)}{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
