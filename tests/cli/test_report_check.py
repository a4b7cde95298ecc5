"""`llmengine report check`: a report of someone else, and its exchanges."""

from __future__ import annotations

import json
from copy import deepcopy
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
def submitted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of a server that breaks a rule."""
    path = tmp_path_factory.mktemp("submitted") / "report.json"
    broken = next(
        m.behaviour for m in mutants() if m.check == RULE and m.behaviour.name == "no created"
    )
    with MockServer(behaviour=broken) as server:
        main(["verify", "--url", server.root_url, "--check", "chat.basic", "--report", str(path)])
    report: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return report


@pytest.fixture
def check_report(
    llmengine: Callable[..., Any], submitted: dict[str, Any], tmp_path: Path
) -> Callable[..., Any]:
    """Checks the report after it was changed."""

    def run(change: Callable[[dict[str, Any], dict[str, Any]], object] | None = None) -> Any:
        data = deepcopy(submitted)
        if change is not None:
            change(data, next(row for row in data["checks"] if row["id"] == RULE))
        (tmp_path / "r.json").write_text(json.dumps(data), "utf-8")
        return llmengine("report", "check", tmp_path / "r.json")

    return run


def test_honest_report_has_no_problem(check_report: Callable[..., Any]) -> None:
    """The rules end on the exchanges as the report says."""
    ran = check_report()

    assert ran.status == 0
    assert "2 of 2 verdicts that are not a pass were judged again, and agree" in ran.out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(
            lambda data, row: row.update(outcome="refused", observed="refused"),
            "the report says refused, and its exchanges give fail",
            id="another verdict",
        ),
        pytest.param(
            lambda data, row: row.update(accepted=True), "fail is never accepted", id="accepted"
        ),
        pytest.param(
            lambda data, row: data["checks"][-1].update(accepted=False),
            "pass is always accepted",
            id="not accepted",
        ),
        pytest.param(
            lambda data, row: data["provenance"].update(describe="live at http://192.168.0.7/v1"),
            "a text holds an address of a private network: 192.168.0.7",
            id="describe",
        ),
        pytest.param(
            lambda data, row: row["exchanges"].clear(),
            "fail has no exchange that shows it",
            id="no exchange",
        ),
        pytest.param(
            lambda data, row: row["exchanges"][0].update(
                response_body=json.dumps(
                    json.loads(row["exchanges"][0]["response_body"]) | {"created": 1}
                )
            ),
            "the report says fail, and its exchanges give pass",
            id="another answer",
        ),
        pytest.param(
            lambda data, row: row["exchanges"][0]["response_headers"].update(
                {"x-route": "http://10.1.2.3:8000"}
            ),
            "a text holds an address of a private network: 10.1.2.3",
            id="private address",
        ),
        pytest.param(
            lambda data, row: row.update(reason="401 for sk-0123456789abcdefghijklmn"),
            "a text holds what looks like a key",
            id="key",
        ),
        pytest.param(
            lambda data, row: row["exchanges"][0].update(request_body='{"api_key": "abc-def-ghi"}'),
            "a text holds what looks like a key",
            id="named key",
        ),
        pytest.param(
            lambda data, row: data["summary"].update(not_accepted=0),
            "it is 0, and the checks give 2",
            id="count",
        ),
        pytest.param(
            lambda data, row: row.update(follows="chat.basic.object_const"),
            "it does not follow from chat.basic.object_const",
            id="cause",
        ),
        pytest.param(
            lambda data, row: row.update(id="chat.basic.gone"), "no such rule is known", id="id"
        ),
        pytest.param(
            lambda data, row: row.update(level="quirk"),
            "group, level and tier of the rule are chat.basic, required, smoke",
            id="level",
        ),
        pytest.param(
            lambda data, row: data["checks"].append(row), "in the report 2 times", id="twice"
        ),
        pytest.param(
            lambda data, row: data["checks"][-1].update(observed="refused"),
            "it passes, but refused was observed",
            id="pass",
        ),
        pytest.param(
            lambda data, row: row.update(seconds="1"), "Input should be a valid number", id="schema"
        ),
    ],
)
def test_problem_is_named(
    check_report: Callable[..., Any], change: Callable[..., object], said: str
) -> None:
    """The status is 1, and the key itself is not printed."""
    ran = check_report(change)

    assert ran.status == 1
    assert said in ran.out
    assert "0123456789abcdef" not in ran.out


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda data, row: row["exchanges"][0].update(response_body="{... (9 more characters)"),
            "a body is cut",
        ),
        (
            lambda data, row: row["exchanges"][0].update(request_body="{}"),
            "not all of its exchanges are in the report",
        ),
        (lambda data, row: row["exchanges"][0].update(status=7), "not HTTP that can be played"),
        (lambda data, row: row["exchanges"][0].update(status=None), "a request was not answered"),
    ],
)
def test_no_second_verdict_is_no_problem(
    check_report: Callable[..., Any], change: Callable[..., object], why: str
) -> None:
    """What cannot be judged again is counted, with the reason."""
    ran = check_report(change)

    assert ran.status == 0
    assert why in ran.out
    assert "1 of 2 verdicts that are not a pass were judged again" in ran.out


def test_rules_of_a_later_version_are_listed(check_report: Callable[..., Any]) -> None:
    """A report of another version may have rules that we do not know."""

    def later(data: dict[str, Any], row: dict[str, Any]) -> None:
        data["provenance"]["tool_version"] = "99.0"
        for other in data["checks"]:
            if other["follows"] == row["id"]:
                other["follows"] = "chat.basic.later"
        row["id"] = "chat.basic.later"

    ran = check_report(later)

    assert ran.status == 0
    assert "Rules of another version (1)" in ran.out
    assert "chat.basic.later" in ran.out


def test_what_is_not_a_report_is_a_mistake_of_the_user(
    llmengine: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 2, and what is wrong; the first word `check` is the command, `./check` a file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "check").write_text("[]", "utf-8")

    for argv in (["check", "check"], ["./check"]):
        ran = llmengine("report", *argv)

        assert ran.status == 2
        assert "check: not a report of the contract" in ran.err

    (tmp_path / "report.json").write_bytes(b"\x1f\x8b")
    ran = llmengine("report", "check", "report.json")

    assert ran.status == 2
    assert "report.json: not a JSON report: not text in UTF-8" in ran.err
