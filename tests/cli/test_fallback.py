"""The command with an engines file that has a fallback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

ENGINES = """
- {name: safe, backend: fallback, engines: [laptop, spare]}
- {name: laptop, backend: mock, model: mock}
- {name: spare, backend: mock, model: mock}
"""


@pytest.fixture
def file(clean_folder: Path) -> Path:
    """The engines file."""
    path = clean_folder / "engines.yaml"
    path.write_text(ENGINES)
    return path


def test_list_shows_the_engines_of_a_fallback(llmengine: Any, file: Path) -> None:
    """They stand in place of an address."""
    ran = llmengine("engines", "list", "--config", file)

    assert ran.status == 0
    (row,) = (line for line in ran.out.splitlines() if line.startswith("safe"))
    assert row.split() == ["safe", "fallback", "laptop,", "spare", "-", "mock", "-"]


def test_check_asks_a_fallback(llmengine: Any, file: Path) -> None:
    """It answers if one of its engines does."""
    ran = llmengine("engines", "check", "safe", "--config", file)

    assert ran.status == 0
    assert ran.out.strip().endswith(": laptop, spare")


@pytest.mark.parametrize(
    "arguments",
    [("batch", "in.jsonl", "-o", "out.jsonl", "--engine", "safe"), ("verify", "--engine", "safe")],
    ids=lambda arguments: arguments[0],
)
def test_what_needs_one_server_names_the_engines(
    llmengine: Any, file: Path, arguments: tuple[str, ...]
) -> None:
    """A batch and the contract take the engines of a fallback, and not the fallback."""
    (file.parent / "in.jsonl").write_text("")

    ran = llmengine(*arguments, "--config", file)

    assert ran.status != 0
    assert "engine 'safe' is a fallback, which has no server of its own; use one" in ran.err
