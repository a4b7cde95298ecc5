"""`llmengine report`: its output, its files and its exit status."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import MockServer
from pytest_llmengine.cli import main
from pytest_llmengine.contract.mutants.registry import mutants

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RULE = "chat.basic.required_fields"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the reports of a good server and of one that breaks a rule."""
    folder = tmp_path_factory.mktemp("reports")
    broken = next(m.behaviour for m in mutants() if m.check == RULE)
    for name, behaviour in (("good.json", None), ("broken.json", broken)):
        command = ["verify", "--check", "chat.basic", "--report", str(folder / name), "--url"]
        with MockServer(behaviour=behaviour) as server:
            main([*command, server.root_url])
    return folder


@pytest.fixture
def files(written: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the two reports."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return tmp_path / "good.json", tmp_path / "broken.json"


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


@pytest.mark.parametrize(("level", "status"), [("expected", 0), ("required", 1), ("quirk", 1)])
def test_level_decides_what_fails_a_comparison(
    llmengine: Callable[..., Any], files: tuple[Path, Path], level: str, status: int
) -> None:
    """Rules of later levels may get worse; the level of the broken rules is changed here."""
    good, broken = files
    worst = "optional" if status == 0 else "required"
    for path in files:
        path.write_text(
            path.read_text("utf-8").replace('"level": "required"', f'"level": "{worst}"')
        )

    ran = llmengine("report", "--changes", good, broken, "--fail-on", level)

    assert ran.status == status
    assert "No longer accepted (" in ran.out
    assert ("none that got worse is required or expected" in ran.out) == (status == 0)


def test_known_deviation_is_the_same_with_and_without_its_profile(
    llmengine: Callable[..., Any], files: tuple[Path, Path], tmp_path: Path
) -> None:
    """What only a profile accepts is counted, and the comparison does not fail for it."""
    broken = files[1]
    accepted = tmp_path / "accepted.json"
    data = json.loads(broken.read_text("utf-8"))
    for row in data["checks"]:
        if not row["accepted"]:
            row |= {"outcome": "deviates", "accepted": True}
            row["reason"] = f"It has none. (fail as known of 1.0; seen: {row['reason']})"
    accepted.write_text(json.dumps(data), "utf-8")

    ran = llmengine("report", "--changes", accepted, broken)

    assert ran.status == 0
    assert "accepted by one profile only" in ran.out


def test_columns_have_the_names_that_are_given(
    llmengine: Callable[..., Any], files: tuple[Path, Path]
) -> None:
    """`NAME=FILE` names a server; a shipped report has its own name."""
    ran = llmengine("report", f"mine={files[1]}", "known:vllm")

    heads = next(line for line in ran.out.splitlines() if line.startswith("rule  "))
    assert heads.split()[-2:] == ["mine", "vllm"]


def test_shipped_reports_are_listed(llmengine: Callable[..., Any]) -> None:
    """With the version and the date of the recording."""
    rows = json.loads(llmengine("report", "known", "--json").out)

    assert {"llama.cpp", "vllm"} <= {row["name"] for row in rows}
    assert rows[0]["version"] in llmengine("report", "known").out


def test_one_report_is_written_in_the_formats_of_others(
    llmengine: Callable[..., Any], files: tuple[Path, Path], tmp_path: Path
) -> None:
    """A JSON report becomes SARIF or a badge, and a summary is appended to what is there."""
    summary = tmp_path / "summary.md"
    summary.write_text("before\n", "utf-8")
    outputs = [tmp_path / "r.sarif", tmp_path / "r.badge.json"]

    ran = llmengine("report", files[1], "-o", outputs[0], "-o", outputs[1], "--summary", summary)

    assert ran.status == 0
    results = json.loads(outputs[0].read_text("utf-8"))["runs"][0]["results"]
    assert RULE in {result["ruleId"] for result in results}
    assert json.loads(outputs[1].read_text("utf-8"))["color"] == "red"
    assert summary.read_text("utf-8").startswith("before\n# Contract: ")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["good.json", "broken.json", "-o", "m.sarif"], "m.sarif is written from one report; 2"),
        (["good.json", "--fail-on", "required"], "--fail-on goes with --changes"),
        (["known:gone"], "known:gone: no server is called 'gone'"),
        (["good.json", "--changes"], "takes two reports, the older one first"),
        (["gone.json"], "gone.json: No such file"),
        (["good.json", "-o", "m.txt"], "report m.txt: the name must end in .md, .html, .ctrf.json"),
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
