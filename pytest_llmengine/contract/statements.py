"""What the sources of the contract demand of a server, and which rules test it."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import NamedTuple

from pytest_llmengine.contract.sources import Citation, citations


class Statement(NamedTuple):
    """One demand of a source: the rules that test it, or the reason why no rule does.

    A rule is the id of a check, or a group.
    """

    citation: Citation
    text: str
    rules: tuple[str, ...]
    excluded: str


def statements() -> list[Statement]:
    """All statements, in the order of the file."""
    file = resources.files("pytest_llmengine.contract") / "statements.toml"
    rows = tomllib.loads(file.read_text("utf-8"))["statement"]
    return [
        Statement(
            citations(row["source"])[0],
            row["text"],
            tuple(row.get("rules", ())),
            row.get("excluded", ""),
        )
        for row in rows
    ]
