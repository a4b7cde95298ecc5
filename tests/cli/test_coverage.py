"""`llmengine contract coverage`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.contract import Driver, Package
from pytest_llmengine.contract.coverage import Coverage, Trial, measure
from pytest_llmengine.contract.fields import request_fields
from pytest_llmengine.contract.mutants.registry import mutants
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.registry import select

if TYPE_CHECKING:
    from collections.abc import Callable

PASSED = Trial("a", "reference", Outcome.PASS, "", accepted=True)


def on_mutant(outcome: Outcome, *, accepted: bool) -> Coverage:
    """The outcome of one check on its mutant; it passes on the reference."""
    return Coverage((PASSED,), (Trial("a", "m", outcome, "why", accepted=accepted),))


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.IGNORED, Outcome.REFUSED])
def test_mutant_is_killed_by_a_verdict_that_fails_the_run(outcome: Outcome) -> None:
    """Fail, ignored, and refused if the capability is claimed."""
    found = on_mutant(outcome, accepted=False)
    assert found.complete
    assert found.to_dict() == {
        "checks": 1,
        "killed": 1,
        "mutants": 1,
        "passed_on_reference": 1,
        "survivors": [],
        "failed_on_reference": [],
        "left_out": {},
    }


@pytest.mark.parametrize(
    ("outcome", "accepted"),
    [(Outcome.PASS, True), (Outcome.UNMEASURED, True), (Outcome.ERROR, False)],
)
def test_mutant_survives_a_verdict_that_proves_nothing(outcome: Outcome, accepted: bool) -> None:
    """A pass, an unmeasured outcome and a broken check do not show that the check can fail."""
    found = on_mutant(outcome, accepted=accepted)
    assert not found.complete
    assert found.to_dict()["killed"] == 0
    assert found.to_dict()["survivors"] == [
        {"check": "a", "mutant": "m", "outcome": str(outcome), "reason": "why"}
    ]
    assert found.lines()[1] == f"survives: a on 'm': {outcome} why"


def test_check_without_a_mutant_is_not_covered() -> None:
    """Nothing shows that such a check can fail."""
    found = Coverage((PASSED,), ())
    assert not found.complete
    assert found.to_dict()["survivors"][0]["mutant"] == "no mutant"


def test_check_that_fails_on_the_reference_is_not_covered() -> None:
    """Either the check or the reference is wrong."""
    failed = Trial("a", "reference", Outcome.FAIL, "why", accepted=False)
    found = Coverage((failed,), (Trial("a", "m", Outcome.FAIL, "why", accepted=False),))
    assert not found.complete
    assert found.to_dict()["passed_on_reference"] == 0
    assert found.lines()[1] == "fails on the reference: a on 'reference': fail why"


def test_coverage_counts_checks_and_mutants(llmengine: Callable[..., Any]) -> None:
    """`--json` prints the counts, and the status is 0 if all are covered."""
    ran = llmengine("contract", "coverage", "--check", "models.list", "--json")
    assert json.loads(ran.out) == {
        "checks": 1,
        "killed": 1,
        "mutants": sum(m.check == "models.list.shape" for m in mutants()),
        "passed_on_reference": 1,
        "survivors": [],
        "failed_on_reference": [],
        "left_out": {},
    }
    assert (ran.status, ran.err) == (0, "")


def test_a_check_without_its_client_library_is_left_out() -> None:
    """The output names it with the reason, and the status stays 0."""

    class Undriven(Driver):
        package = Package("no-such-client", (1, 0))

    row = replace(select(ids=["models.list.shape"])[0], driver=Undriven)
    found = measure([row])
    assert found.to_dict()["left_out"] == {"models.list.shape": Undriven.missing()}
    assert found.lines()[-1].startswith("left out: models.list.shape: no-such-client>=1.0")
    assert not found.survivors


def test_generated_mutants_are_part_of_the_output(llmengine: Callable[..., Any]) -> None:
    """`--generated` prints the counts, and the status is 1 if too many of them survive."""
    command = ("contract", "coverage", "--check", "models.list", "--generated", "--jobs", "1")
    ran = llmengine(*command, "--json")
    found = json.loads(ran.out)["generated"]
    assert set(found) == {"total", "killed", "accepted", "survivors", "untried"}
    unnoticed = len(found["survivors"]) + sum(found["accepted"].values())
    assert found["killed"] + unnoticed == found["total"] > 50
    assert "GET /models data[].owned_by: another" in found["survivors"]
    assert ran.status == 1
    text = llmengine(*command)
    assert f"survives: {found['survivors'][0]}" in text.out
    assert f"{found['total']} generated mutants: {found['killed']} noticed" in text.out
    *_, last = text.err.splitlines()
    assert re.fullmatch(r"(\d+) of \1 generated mutants", last)


def test_an_interrupt_keeps_what_was_tried(command: list[str]) -> None:
    """Ctrl-C, which all processes get, prints the partial result and ends with 130."""
    argv = [*command, "contract", "coverage", "--check", "chat.basic", "--generated", "--jobs", "2"]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        assert " generated mutants" in process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    summary, interrupted, *_ = out.splitlines()
    assert process.returncode == 130
    assert summary[0] != "0"
    assert re.fullmatch(r"interrupted: \d+ more mutants were not tried", interrupted)
    assert "Traceback" not in err


def test_a_sample_that_is_noticed_ends_well(llmengine: Callable[..., Any]) -> None:
    """The status is 0 if the rules notice enough of the mutants."""
    names = ("models.list", "models.schema", "models.retrieve_equals_list")
    checks = [part for name in names for part in ("--check", name)]
    options = ("--generated", "--sample", "20", "--seed", "0", "--jobs", "1", "--json")
    ran = llmengine("contract", "coverage", *checks, *options)
    assert json.loads(ran.out)["generated"]["total"] == 20
    assert ran.status == 0


def test_the_command_prints_the_fields(llmengine: Callable[..., Any]) -> None:
    """With `--fields`, a check alone notices the field that it is about."""
    ran = llmengine("contract", "coverage", "--fields", "--check", "emb.base64", "--json")
    found = json.loads(ran.out)["fields"]
    assert found["total"] == len(found["list"]) == len(request_fields())
    noticed = [row for row in found["list"] if "check" in row]
    assert found["noticed"] == len(noticed)
    assert {
        "request": "/embeddings",
        "field": "encoding_format",
        "case": "whole",
        "check": "emb.base64",
    } in noticed
    assert found["excluded"] == sum("excluded" in row for row in found["list"])
    assert ran.status == 1

    ran = llmengine("contract", "coverage", "--fields", "--check", "emb.base64")
    assert ran.out.startswith(
        f"{len(request_fields())} fields of requests: {len(noticed)} are noticed, "
    )
    assert "not noticed: /embeddings dimensions (whole)\n" in ran.out
