"""`llmengine verify` on mock servers: outcomes, reports and exit statuses."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Behaviour, Fault, MockServer, Script
from pytest_llmengine.contract.mutants.registry import mutants
from pytest_llmengine.contract.registry import Tier, groups, select

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RULE = "chat.basic.required_fields"


def broken(check: str) -> Behaviour:
    """A server that breaks the rule of that check."""
    return next(m.behaviour for m in mutants() if m.check == check)


def deviation(outcome: str) -> str:
    """A profile that has one deviation from the rule."""
    return f"""
engine = "mine"
[[deviation]]
check = "{RULE}"
outcome = "{outcome}"
version = "1.0"
reason = "no created yet"
"""


def test_good_server_is_accepted(llmengine: Callable[..., Any]) -> None:
    """The smoke tier passes on the reference with status 0; the matrix and the sum are printed."""
    with MockServer() as server:
        ran = llmengine("verify", "--url", server.root_url, "--tier", "smoke")
    checks = select(tier=Tier.SMOKE)
    assert ran.status == 0
    assert ran.out.startswith(f"live at {server.base_url}")
    assert f"{len(checks)} checks: " in ran.out
    assert ran.out.rstrip().endswith("all accepted")


@pytest.mark.parametrize("mode", ["live", "record"])
def test_query_string_of_the_address_is_sent(
    mode: str, llmengine: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Azure's ``?api-version=`` is part of every request, also of recorded ones."""
    monkeypatch.chdir(tmp_path)
    with MockServer() as server:
        url = f"{server.base_url}?api-version=1"
        ran = llmengine("verify", "--url", url, "--check", "chat.basic", "--mode", mode)

    assert ran.status == 0, ran.err
    asked = [call for call in server.calls if call.path == "/v1/chat/completions"]
    assert asked
    assert {call.query for call in asked} == {"api-version=1"}


def test_progress_is_one_line_per_group_on_standard_error(llmengine: Callable[..., Any]) -> None:
    """If standard error is not a terminal, there is a line for every finished group."""
    with MockServer() as server:
        ran = llmengine("verify", "--url", server.root_url, "--check", "chat.basic")
    first, second, *groups = ran.err.splitlines()
    assert first.startswith("live at ")
    assert second.startswith("the checks need about ")
    assert groups == [f"chat.basic: {len(select(ids=['chat.basic']))} pass"]


def test_broken_rule_is_named_and_fails_the_run(llmengine: Callable[..., Any]) -> None:
    """A server that breaks one rule ends the command with 1, and the list has the check."""
    with MockServer(behaviour=broken(RULE)) as server:
        ran = llmengine("verify", "--url", server.root_url, "--check", RULE)
    assert ran.status == 1
    assert f"  fail       {RULE}  required" in ran.out
    assert ran.out.rstrip().endswith("not accepted")


def test_only_differences_leaves_out_what_the_profile_expects(
    llmengine: Callable[..., Any], tmp_path: Path
) -> None:
    """Neither counts nor known deviations are printed; a new failure is."""
    profile = tmp_path / "mine.toml"
    profile.write_text(deviation("fail"), encoding="utf-8")
    verify = ("verify", "--check", RULE, "--check", "models.list", "--only-differences")
    with MockServer(behaviour=broken(RULE)) as server:
        known = llmengine(*verify, "--url", server.root_url, "--profile", profile)
        new = llmengine(*verify, "--url", server.root_url)
    assert RULE not in known.out
    assert len(known.out.splitlines()) == 4, known.out
    assert f"  fail       {RULE}  required" in new.out
    assert "group " not in new.out


def test_json_report_has_every_verdict_and_the_exchange_of_a_failure(
    llmengine: Callable[..., Any], tmp_path: Path
) -> None:
    """The report has engine, mode, checks and the exchange of each failure."""
    path = tmp_path / "report.json"
    with MockServer(behaviour=broken(RULE)) as server:
        llmengine("verify", "--url", server.root_url, "--check", "chat.basic", "--report", path)
    found = json.loads(path.read_text("utf-8"))
    checks = {row["id"]: row for row in found["checks"]}
    assert found["schema_version"] == 1
    assert found["provenance"]["engine"] == "openai_compatible"
    assert found["provenance"]["name"] == "mock"
    assert (found["provenance"]["mode"], found["provenance"]["model"]) == ("live", "mock")
    assert list(checks) == [check.id for check in select(ids=["chat.basic"])]
    assert found["summary"]["not_accepted"] == sum(not row["accepted"] for row in checks.values())
    assert checks[RULE]["outcome"] == "fail"
    assert checks[RULE]["exchanges"][0]["path"] == "/chat/completions"


def test_every_report_that_is_asked_for_is_written(
    llmengine: Callable[..., Any], tmp_path: Path
) -> None:
    """Each has the form of its name; the page has the exchange of the failure."""
    markdown, page = tmp_path / "report.md", tmp_path / "report.html"
    asked = ("--check", RULE, "--report", markdown, "--report", page)
    with MockServer(behaviour=broken(RULE)) as server:
        llmengine("verify", "--url", server.root_url, *asked)
    assert markdown.read_text("utf-8").startswith("# Contract report: mock\n")
    html = page.read_text("utf-8")
    assert f'<div id="{RULE}"' in html
    assert "POST /chat/completions" in html


def test_groups_and_checks_can_be_skipped(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """`--check` takes the groups in reports, and `--skip` removes groups and checks."""
    path = tmp_path / "report.json"
    with MockServer() as server:
        ran = llmengine(
            "verify", "--url", server.root_url, "--report", path, "--check", "tools",
            "--check", "models", "--skip", "tools.counted", "--skip", "models.list.shape",
        )  # fmt: skip
    assert ran.status == 0
    found = [row["id"] for row in json.loads(path.read_text("utf-8"))["checks"]]
    under = {g for g in groups() if f"{g}.".startswith("tools.")} - {"tools.counted"} | {"models"}
    wanted = {c.id for c in select() if c.group in under} - {"models.list.shape"}
    assert set(found) == wanted


def test_level_narrows_the_run(llmengine: Callable[..., Any]) -> None:
    """`--level required` runs the rules of OpenAI's schema; an empty selection is possible."""
    required = [c for c in select(ids=["chat.basic"]) if c.level.value == "required"]
    with MockServer() as server:
        url = ("verify", "--url", server.root_url, "--level", "required")
        ran = llmengine(*url, "--check", "chat.basic")
        none = llmengine(*url, "--check", "hdr")
    assert f"{len(required)} checks: {len(required)} pass" in ran.out
    assert (none.status, none.out) == (2, "")
    assert "no check is left" in none.err


def test_check_deeper_than_the_default_tier_can_be_asked_for(
    llmengine: Callable[..., Any],
) -> None:
    """`--check` finds a check of any tier; `--tier` limits it again."""
    deep = next(check.id for check in select() if check.tier is Tier.EXTENDED)
    with MockServer() as server:
        found = llmengine("verify", "--url", server.root_url, "--check", deep)
        ran = llmengine("verify", "--url", server.root_url, "--check", deep, "--tier", "smoke")
    assert "1 check: " in found.out
    assert (ran.status, ran.out) == (2, "")


@pytest.mark.parametrize(
    ("behaviour", "known", "status", "outcome"),
    [
        (broken(RULE), "fail", 0, "deviates"),
        (broken(RULE), "ignored", 1, "fail"),
        (Behaviour(), "fail", 1, "fail"),
    ],
    ids=["known", "another way", "gone"],
)
def test_profile_decides_what_is_accepted(
    llmengine: Callable[..., Any],
    tmp_path: Path,
    behaviour: Behaviour,
    known: str,
    status: int,
    outcome: str,
) -> None:
    """A known deviation is accepted; another one, and one that is gone, fail the run."""
    profile = tmp_path / "mine.toml"
    profile.write_text(deviation(known), encoding="utf-8")
    with MockServer(behaviour=behaviour) as server:
        ran = llmengine("verify", "--url", server.root_url, "--check", RULE, "--profile", profile)
    assert ran.status == status
    assert f"  {outcome:10} {RULE}" in ran.out


def test_recording_replays_with_the_same_verdicts(
    llmengine: Callable[..., Any], tmp_path: Path
) -> None:
    """The replay has the same outcomes without the server, and says what it is."""
    with MockServer(behaviour=broken(RULE)) as server:
        recorded = llmengine(
            "verify", "--url", server.root_url, "--check", "chat.basic", "--cassettes", tmp_path,
            "--mode", "record", "--report", tmp_path / "recorded.json",
        )  # fmt: skip
    replayed = llmengine(
        "verify", "--engine", "openai_compatible", "--check", "chat.basic",
        "--cassettes", tmp_path, "--mode", "replay", "--report", tmp_path / "replayed.json",
    )  # fmt: skip
    assert (recorded.status, replayed.status) == (1, 1)
    assert replayed.out.startswith("replayed from ")
    outcomes = [
        [row["outcome"] for row in json.loads((tmp_path / name).read_text("utf-8"))["checks"]]
        for name in ("recorded.json", "replayed.json")
    ]
    assert outcomes[0] == outcomes[1]
    assert "fail" in outcomes[0]


def test_key_comes_from_the_environment_and_is_not_shown(
    llmengine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The server gets the key, and it is in no output and no report."""
    monkeypatch.setenv("LLMENGINE_API_KEY", "sk-very-secret-key")
    path = tmp_path / "report.json"
    with MockServer(api_key="sk-very-secret-key", behaviour=broken(RULE)) as server:
        ran = llmengine("verify", "--url", server.root_url, "--check", RULE, "--report", path)
    assert ran.status == 1
    assert RULE in ran.out
    assert "very-secret" not in ran.out + ran.err + path.read_text("utf-8")


def test_interrupt_ends_the_run_with_130(command: list[str]) -> None:
    """Ctrl-C during a run causes no traceback."""
    slow = Script(faults=repeat(Fault(delay=30)))
    with MockServer() as server:
        url = ["--url", server.root_url, "--check", "chat.basic"]
        with subprocess.Popen(
            [*command, "verify", *url], stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr.readline().startswith("live at ")
            server.play(slow)
            process.send_signal(signal.SIGINT)
            said = process.stderr.read()
            assert process.wait(20) == 130
    assert "Traceback" not in said


def test_jobs_give_the_same_outcomes(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """Checks that run at the same time have the verdicts that they have one by one."""
    path = tmp_path / "report.json"
    reports = []
    with MockServer() as server:
        for jobs in (1, 4):
            ran = llmengine(
                "verify",
                "--url",
                server.root_url,
                "--report",
                path,
                "--check",
                "chat",
                "--jobs",
                jobs,
            )
            assert ran.status == 0
            rows = json.loads(path.read_text())["checks"]
            reports.append([(row["id"], row["outcome"], row["reason"]) for row in rows])
    assert reports[0] == reports[1]


ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}
    ],
}


class _AnswersInPairs(BaseHTTPRequestHandler):
    """Answers the requests of the contract two by two, and all others at once."""

    waiting = Barrier(2, timeout=20)

    def do_GET(self) -> None:
        self._answer({"object": "list", "data": []})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.headers["user-agent"] == "pytest-llmengine":
            self.waiting.wait()
        self._answer(ANSWER)

    def _answer(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *args: object) -> None:
        pass


def test_jobs_send_requests_at_the_same_time(llmengine: Callable[..., Any]) -> None:
    """With two jobs, two checks wait for the server together."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _AnswersInPairs) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        ran = llmengine(
            "verify", "--url", f"http://127.0.0.1:{server.server_port}/v1", "--model", "m",
            "--jobs", 2, "--check", "chat.basic.object_const", "--check", "chat.basic.model_echo",
        )  # fmt: skip
        server.shutdown()
    assert ran.status == 0


def test_jobs_do_not_go_with_recordings(llmengine: Callable[..., Any]) -> None:
    """A cassette belongs to one check, so a recorder or replayer takes one at a time."""
    ran = llmengine("verify", "--mode", "replay", "--jobs", 2)
    assert ran.status == 2
    assert "--jobs goes with --mode live or docker" in ran.err


def test_the_cost_is_printed_before_the_run(llmengine: Callable[..., Any]) -> None:
    """Standard error says how many requests, bytes and tokens a live run needs."""
    with MockServer() as server:
        ran = llmengine("verify", "--url", server.root_url, "--check", RULE)
    line = r"^the checks need about 1 request, 0\.00 MB, \d+ tokens$"
    assert re.search(line, ran.err, re.MULTILINE)
