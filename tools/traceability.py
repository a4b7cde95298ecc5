"""Write docs/traceability.md: which rule tests what the sources demand, and what each rule cites.

python tools/traceability.py            # write the page
python tools/traceability.py --check    # exit with 1 if the page is not fresh
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.contract.statements import statements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmengine.contract.registry import Check
    from pytest_llmengine.contract.sources import Citation

PAGE = Path(__file__).parent.parent / "docs" / "traceability.md"
_HEAD = """\
# Traceability

`python tools/traceability.py` writes this page, and a test checks that it is fresh.

## What the sources demand

Every demand on a server in the documents that the contract cites, in our words, with the rules that
test it or the reason why none does. The fields of requests have a table of their own:
`llmengine contract coverage --fields`.
"""


def page() -> str:
    """The text of the page."""
    return "\n".join([_HEAD, *_demands(), "", "## What each rule cites", "", *_rules()]) + "\n"


def _demands() -> Iterator[str]:
    yield "| source | demand | tested by |"
    yield "|---|---|---|"
    for statement in statements():
        tested = ", ".join(f"`{rule}`" for rule in statement.rules)
        tested = tested or f"not tested: {statement.excluded}"
        yield f"| {_link(statement.citation)} | {statement.text} | {tested} |"


def _rules() -> Iterator[str]:
    checks = [check for check in catalogue().values() if check.own_file is None]
    for group, members in groupby(checks, key=lambda check: check.group):
        yield f"### {group}"
        yield ""
        yield "| rule | level | since | sources | if it is broken |"
        yield "|---|---|---|---|---|"
        yield from map(_row, members)
        yield ""


def _row(check: Check) -> str:
    links = "<br>".join(map(_link, check.citations))
    rule = f"`{check.id}`<br>{_cell(check.title)}"
    return f"| {rule} | {check.level} | {check.since} | {links} | {_cell(check.breaks)} |"


def _link(citation: Citation) -> str:
    return f"[{_cell(citation.text)}]({citation.link}) ({citation.revision})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("[", "\\[").replace("<", "&lt;")


def main() -> int:
    """Write the page, or check it."""
    if "--check" in sys.argv:
        return 0 if PAGE.read_text("utf-8") == page() else 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
