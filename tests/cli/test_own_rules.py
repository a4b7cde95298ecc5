"""`--rules FILE`: rules of the user's own in `verify`, `contract list` and `contract explain`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RULES = """
from pytest_llmengine.contract import check, expect

@check("acme.names_itself", level="quirk", tier="smoke", source="our README")
def names_itself(target):
    '''Every answer names its node.

    The load balancer adds the header.
    '''
    expect("x-acme-node" in target.chat().headers, "there is no header x-acme-node")

@check("acme.chat.model", level="expected", tier="core", source="our README", group="acme")
def model(target):
    '''An answer names the model.'''
    assert target.chat().success()["model"] == target.model
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A file of rules."""
    path = tmp_path / "acme_rules.py"
    path.write_text(RULES)
    return path


def test_verify_runs_them_with_the_shipped_rules(
    program: Callable[..., Any], rules: Path, tmp_path: Path
) -> None:
    """They are selected by group and id, and have a group of their own in the report."""
    report = tmp_path / "report.json"
    shipped = ("--check", "usage.present_sum", "--check", "models", "--skip", "models.list.shape")
    chosen = (*shipped, "--check", "acme")
    with MockServer() as server:
        aim = ("verify", "--url", server.base_url, "--rules", rules)
        ran = program(*aim, *chosen, "--report", report)
        good = program(*aim, "--check", "acme.chat")

    assert (ran.status, good.status) == (1, 0)
    assert "there is no header x-acme-node" in ran.out
    assert "acme: 1 fail, 1 pass" in ran.err
    rows = json.loads(report.read_text())["checks"]
    found = [(row["id"], row["group"], row["outcome"]) for row in rows]
    assert ("usage.present_sum", "usage", "pass") in found
    assert "models.list.shape" not in {id_ for id_, _, _ in found}
    assert found[-2:] == [
        ("acme.names_itself", "acme", "fail"),
        ("acme.chat.model", "acme", "pass"),
    ]
    assert "1 check: 1 pass; all accepted" in good.out


def test_a_profile_is_written_for_them_and_accepts_them(
    program: Callable[..., Any], rules: Path, tmp_path: Path
) -> None:
    """What was seen of a user's rule is an entry like any other."""
    profile = tmp_path / "mine.toml"
    with MockServer() as server:
        aim = ("verify", "--url", server.base_url, "--rules", rules, "--check", "acme")
        first = program(*aim, "--write-profile", profile)
        second = program(*aim, "--profile", profile)

    assert (first.status, second.status) == (1, 0)
    assert 'check = "acme.names_itself"' in profile.read_text()
    assert "1 deviates" in second.out


def test_they_are_listed_and_explained(program: Callable[..., Any], rules: Path) -> None:
    """The shipped profiles claim nothing of them."""
    listed = program("contract", "list", "--rules", rules, "--group", "acme", "--json")
    explained = program("contract", "explain", "acme.names_itself", "--rules", rules)

    assert [row["id"] for row in json.loads(listed.out)] == ["acme.names_itself", "acme.chat.model"]
    assert json.loads(listed.out)[0]["rule"] == "Every answer names its node."
    assert "The load balancer adds the header." in explained.out
    assert "our README" in explained.out
    assert "profile" not in explained.out


@pytest.mark.parametrize("command", [("verify", "--engine", "mock"), ("contract", "list")])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (RULES.replace("acme.names_itself", "chat.names_itself"), ":4: rule 'chat.names_itself': "),
        (RULES.replace("smoke", "deep"), "the tier 'deep' is not one of smoke, core, extended"),
        (f"import no_such_module\n{RULES}", ":1: ModuleNotFoundError: "),
        (None, "No such file or directory"),
    ],
    ids=["clash", "tier", "import", "missing"],
)
def test_a_wrong_file_is_one_line(
    program: Callable[..., Any], rules: Path, command: tuple[str, ...], text: str | None, words: str
) -> None:
    """The error names the file, and nothing is run."""
    if text is None:
        rules.unlink()
    else:
        rules.write_text(text)

    ran = program(*command, "--rules", rules)

    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"llmengine: {rules}")
    assert words in ran.err
    assert ran.err.count("\n") == 1
