"""`llmengine report`: its output, its files and its exit status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import MockServer
from pytest_llmengine.contract.mutants.registry import mutants

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RULE = "chat.basic.required_fields"


@pytest.fixture
def files(llmengine: Callable[..., Any], tmp_path: Path) -> tuple[Path, Path]:
    """The reports of a good server and of one that breaks a rule."""
    broken = next(m.behaviour for m in mutants() if m.check == RULE)
    paths = tmp_path / "good.json", tmp_path / "broken.json"
    for path, behaviour in zip(paths, (None, broken), strict=True):
        with MockServer(behaviour=behaviour) as server:
            llmengine("verify", "--url", server.root_url, "--check", "chat.basic", "--report", path)
    return paths


def test_matrix_is_printed_and_written(
    llmengine: Callable[..., Any], files: tuple[Path, Path], tmp_path: Path
) -> None:
    """The terminal has the rules that differ, the files have all."""
    ran = llmengine("report", *files, "-o", tmp_path / "m.md", "--output", tmp_path / "m.html")

    assert ran.status == 0
    assert RULE in ran.out
    assert "chat.basic.object_const" not in ran.out
    assert (
        "| chat.basic.object\\_const | required | pass | pass |" in (tmp_path / "m.md").read_text()
    )
    assert "chat.basic.object_const" in (tmp_path / "m.html").read_text()
    assert "chat.basic.object_const" in llmengine("report", *files, "--all").out


def test_changes_end_with_1_when_something_broke(
    llmengine: Callable[..., Any], files: tuple[Path, Path]
) -> None:
    """The status stops a pipeline; changes for the better end with 0."""
    good, broken = files

    worse = llmengine("report", "--changes", good, broken)
    better = llmengine("report", "--changes", broken, good)

    assert (worse.status, better.status) == (1, 0)
    assert "No longer accepted (" in worse.out
    assert "Accepted now (" in better.out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["good.json", "--changes"], "takes two reports, the older one first"),
        (["gone.json"], "gone.json: No such file"),
        (["good.json", "-o", "m.txt"], "report m.txt: the name must end in .md, .html"),
    ],
)
def test_mistake_of_a_user_is_one_line(
    llmengine: Callable[..., Any],
    files: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    said: str,
) -> None:
    """Status 2, and what is wrong."""
    monkeypatch.chdir(files[0].parent)

    ran = llmengine("report", *argv)

    assert ran.status == 2
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1
