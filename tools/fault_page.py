"""Write the tables of docs/faults.md from the faults of tests/faults.

Tests check each outcome against the library, and the page against this program, so the page always
agrees with the code. Run it as ``python tools/fault_page.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from faults.fault import ANSWER, AS_IT_CAME, BACKENDS  # noqa: E402 - found by the line above
from faults.table import FAULTS, KINDS  # noqa: E402

if TYPE_CHECKING:
    from faults.fault import Backend, Fault

DOCUMENT = ROOT / "docs" / "faults.md"
BEGIN, END = "<!-- tables: begin -->\n", "<!-- tables: end -->"
_MARKS = {"retried": "↻", "partial": "◐"}
# The calls with outcomes of their own: `generate`, `results` and `iter_results` have the same.
_WHOLE, _STREAM, _BATCH = "results", "stream", "batch"


def tables() -> str:
    """One table for each kind of fault."""
    parts = [f"{len(FAULTS)} faults, {len(BACKENDS)} backends, five ways to call each.\n"]
    for kind, faults in KINDS.items():
        head = [_row([kind, *BACKENDS]), _row(["---"] * (len(BACKENDS) + 1))]
        parts.append("\n".join([*head, *map(_line, faults)]) + "\n")
    return "\n".join(parts)


def page(document: str) -> str:
    """The document with new tables."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def _line(fault: Fault) -> str:
    return _row([_escaped(fault.name), *(_cell(fault, column) for column in BACKENDS.values())])


def _cell(fault: Fault, backend: Backend) -> str:
    """The outcome, and those of a stream and a batch file if they differ."""
    whole, stream, batch = (_outcome(fault, backend, s) for s in (_WHOLE, _STREAM, _BATCH))
    parts = [whole]
    parts += [f"stream: {stream}"] if stream != whole else []
    parts += [f"batch: {batch}"] if batch != whole else []
    return "<br>".join(parts)


def _outcome(fault: Fault, backend: Backend, style: str) -> str:
    after = fault.outcome(backend, style, after=True)
    words = _marked(fault.outcome(backend, style))
    if after == ANSWER:
        return words
    return f"{words}, then {_marked(after)}"


def _marked(outcome: str) -> str:
    if outcome == ANSWER:
        return "✓"
    if outcome.endswith(ANSWER) or outcome == AS_IT_CAME:
        return f"✓ {outcome.removesuffix(ANSWER).strip()}"
    return " ".join(_MARKS.get(word, word.removesuffix("Error")) for word in outcome.split())


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[").replace("*", "\\*")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write the page."""
    DOCUMENT.write_text(page(DOCUMENT.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
