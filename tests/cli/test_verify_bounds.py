"""`llmengine verify` always ends, and keeps the results so far."""

from __future__ import annotations

import json
import signal
import subprocess
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Behaviour, Fault, MockServer, RawReply, Script
from pytest_llmengine.contract.registry import select

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from llmengine.mock import ReceivedRequest

GROUP = "chat.basic"
CHECKS = [check.id for check in select(ids=[GROUP])]
NEVER = Fault(delay=60)
KNOCKS = 3  # the requests before the first check: the models, a version and one token


def outcomes(path: Path) -> list[str]:
    """The outcomes in a JSON report, in order."""
    return [row["outcome"] for row in json.loads(path.read_text("utf-8"))["checks"]]


def answering(times: int, then: Iterable[Fault | None]) -> Script:
    """A server that answers the first requests and so many more, and then has these faults."""
    return Script(faults=chain(repeat(None, KNOCKS + times), then))


def test_run_stops_at_a_server_that_no_longer_answers(
    llmengine: Callable[..., Any], tmp_path: Path
) -> None:
    """After one answer, two checks have no outcome and the rest is listed as not run."""
    path = tmp_path / "report.json"
    with MockServer() as server:
        server.play(answering(1, repeat(NEVER)))
        ran = llmengine(
            "verify", "--url", server.root_url, "--check", GROUP, "--report", path,
            "--answer-timeout", 0.1, "--max-unanswered", 2,
        )  # fmt: skip
    left = len(CHECKS) - 3
    assert ran.status == 1
    assert outcomes(path) == ["pass", "error", "error", *["not_run"] * left]
    assert f"Not run ({left})" in ran.out
    assert ran.out.count("the run stopped: 2 checks in a row got no answer") == 1
    assert ran.out.rstrip().endswith(f"{left + 2} not accepted")


def test_an_answer_in_between_lets_the_run_go_on(llmengine: Callable[..., Any]) -> None:
    """Only checks in a row without any answer stop a run."""
    with MockServer() as server:
        server.play(answering(0, [NEVER, None, NEVER]))
        ran = llmengine(
            "verify", "--url", server.root_url, "--check", "chat.basic.required_fields",
            "--check", "chat.basic.object_const", "--check", "chat.basic.created_unix_int",
            "--check", "chat.basic.model_echo", "--answer-timeout", 0.1, "--max-unanswered", 2,
        )  # fmt: skip
    assert "4 checks: 2 pass, 2 error; 2 not accepted" in ran.out


def test_run_has_a_time_of_its_own(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """When the time is over, the running check has no outcome, and the rest is not run."""
    path = tmp_path / "report.json"
    with MockServer() as server:
        server.play(answering(1, repeat(NEVER)))
        ran = llmengine(
            "verify", "--url", server.root_url, "--check", GROUP, "--report", path,
            "--run-timeout", 0.5,
        )  # fmt: skip
    assert ran.status == 1
    assert outcomes(path) == ["pass", "error", *["not_run"] * (len(CHECKS) - 2)]
    assert "the run stopped: its 0.5 s are over (--run-timeout)" in ran.out


@pytest.mark.parametrize(("suffix", "jobs"), [(".json", 1), (".md", 1), (".html", 1), (".json", 2)])
def test_interrupt_keeps_what_was_found(
    command: list[str], tmp_path: Path, suffix: str, jobs: int
) -> None:
    """Ctrl-C prints and writes the partial report, says what was not run, and ends with 130."""
    path = tmp_path / f"report{suffix}"
    with MockServer() as server:
        server.play(answering(1, repeat(NEVER)))
        url = ["--url", server.root_url, "--check", "models", "--check", GROUP]
        with subprocess.Popen(
            [*command, "verify", *url, "--report", str(path), "--jobs", str(jobs)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while len(server.calls) < KNOCKS + 1 + jobs:  # so that one check has ended
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "1 pass" in out
    assert "the run was interrupted" in out
    assert "not_run" in path.read_text("utf-8").replace("\\", "")


def _coded(path: str, body: bytes) -> Behaviour:
    """A server that claims that its answers on a path are in gzip."""

    def wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if not call.path.endswith(path):
            return reply
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        return RawReply(200, headers, [body])

    return Behaviour("gzip", wire=wire)


def test_bad_gzip_is_a_verdict(llmengine: Callable[..., Any]) -> None:
    """A body that cannot be decoded fails the checks, and the reason says so."""
    with MockServer(behaviour=_coded("/chat/completions", b"not gzip")) as server:
        ran = llmengine("verify", "--url", server.root_url, "--check", GROUP)
    assert ran.status == 1
    assert f"{len(CHECKS)} fail" in ran.out
    assert "the body, in “gzip” that was not asked for, is not JSON: “not gzip”" in " ".join(
        ran.out.split()
    )


def test_bad_gzip_of_the_models_is_one_line(llmengine: Callable[..., Any]) -> None:
    """If the first answer cannot be read, there is one line and no traceback."""
    with MockServer(behaviour=_coded("/models", b"not gzip")) as server:
        ran = llmengine("verify", "--url", server.root_url, "--check", GROUP)
    assert ran.status == 2
    assert ran.err.startswith("llmengine: engine 'openai_compatible'")
    assert ran.err.count("\n") == 1
