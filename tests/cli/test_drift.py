"""`llmengine drift record` and `check`: files, exit statuses and mistakes of users."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Behaviour, Fault, MockServer
from pytest_llmengine.drift import DriftPrompt, DriftTier, Probe, RoundKind, load, save
from pytest_llmengine.drift.live import Effort, record
from pytest_llmengine.drift.measure import SAMPLING
from pytest_llmengine.targets import Mode, Settings, open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


QUICK = ("--rounds", 2, "--sessions", 2)


def _shout(body: dict[str, Any], call: Any) -> dict[str, Any]:
    """A gateway that changes texts, and leaves the tokens."""
    for choice in body.get("choices", ()):
        choice["message"]["content"] = choice["message"]["content"].upper()
    return body


@pytest.fixture
def server(clean_folder: Path) -> Iterator[MockServer]:
    """A server."""
    assert clean_folder.is_dir()
    with MockServer() as server:
        yield server


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    """The key of the server."""
    monkeypatch.setenv("LLMENGINE_API_KEY", "sk-drift-0123456789")
    return "sk-drift-0123456789"


def test_record_and_check(
    llmengine: Callable[..., Any], server: MockServer, tmp_path: Path, key: str
) -> None:
    """A server is the same as itself, by its address or by the file's; a gateway is found."""
    file, report, page = (tmp_path / name for name in ("base.jsonl.gz", "r.json", "r.html"))

    recorded = llmengine("drift", "record", server.base_url, "-o", file, *QUICK)
    same = llmengine("drift", "check", file, "--report", report, "--report", page)
    with MockServer(behaviour=Behaviour(reply=_shout)) as other:
        changed = llmengine("drift", "check", file, other.base_url)

    assert recorded.status == 0, recorded.err
    assert "tier logprobs: log-probabilities and text" in recorded.out
    assert "cost 263 requests, 207 of them for the choice of prompts" in recorded.out
    assert "the sessions are like each other (p = 1)" in recorded.out
    assert same.status == 0, same.err
    assert "same: no evidence of a change (smallest adjusted p 1)" in same.out
    assert "cost 116 requests" in same.out
    written = json.loads(report.read_text("utf-8"))
    assert (written["verdict"], written["cost"]["requests"]) == ("same", 116)
    assert "no evidence of a change" in page.read_text("utf-8")
    assert changed.status == 1
    assert "changed: the text is not what its tokens say; text (adjusted p" in changed.out
    baseline = load(file)
    assert baseline.facts.url == server.base_url
    assert {len(prompt.text.split()) for prompt in baseline.probe.prompts[:10]} == {2}
    assert not any(key in str(part) for part in (baseline, written, recorded, same, changed))


def record_small(server: MockServer, effort: Effort) -> None:
    """A baseline of one prompt in the file b.jsonl."""
    probe = Probe(tier=DriftTier.TEXT, sampling=SAMPLING, prompts=(DriftPrompt(text="a b"),))
    settings = Settings(url=server.base_url, mode=Mode.LIVE)
    with open_session("openai_compatible", settings) as session:
        save(record(session, probe, url=server.base_url, effort=effort), Path("b.jsonl"))


def test_a_failure_is_no_verdict(llmengine: Callable[..., Any], server: MockServer) -> None:
    """A request that fails twice ends the check with its error."""
    record_small(server, Effort(2, {RoundKind.FIRST: 3}))
    server.when(contains="a b").reply(Fault(status=400))
    server.when().reply()
    ran = llmengine("drift", "check", "b.jsonl")

    assert ran.status == 2
    assert "cannot tell: a request failed, and again when its round was repeated" in ran.out


def test_one_session_is_too_few(llmengine: Callable[..., Any], server: MockServer) -> None:
    """The check says so before it asks anything, and how to record a better baseline."""
    record_small(server, Effort(1, {RoundKind.FIRST: 3}))
    before = len(server.calls)
    ran = llmengine("drift", "check", "b.jsonl")

    assert ran.status == 2
    assert "cannot tell: the baseline has too few sessions and rounds" in ran.out
    assert "record it again with at least --sessions 2 --rounds 2" in ran.out
    assert all(call.prompt != "a b" for call in server.calls[before:])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["record", "mock", "-o", "b.txt"], "must end in .jsonl or .jsonl.gz"),
        (["record", "mock", "-o", "gone/b.jsonl"], "there is no directory gone; make it first"),
        (["record", "mock", "-o", "b.jsonl", "--spread", "soon"], "'soon' is not a time; write"),
        (["record", "nope", "-o", "b.jsonl"], "unknown engine 'nope'"),
        (["record", "mock"], "Missing option '--output'"),
        (["check", "gone.jsonl"], "baseline gone.jsonl: No such file or directory"),
        (["check", "parity.jsonl"], "not a file that `llmengine drift record` wrote"),
        (["check", "later.jsonl"], "format version 2, and this package reads 1; update"),
        (["check", "cut.jsonl"], "baseline cut.jsonl: facts: Field required"),
        (["check", "cut.jsonl", "--report", "r.txt"], "must end in .json"),
    ],
)
def test_mistake_of_a_user_is_one_line(
    llmengine: Callable[..., Any], clean_folder: Path, arguments: list[str], problem: str
) -> None:
    """Status 2, and a line that says what is wrong and what to do."""
    for name, head in {
        "parity": {"format": "llmengine-parity", "version": 1},
        "later": {"format": "llmengine-drift", "version": 2},
        "cut": {"format": "llmengine-drift", "version": 1},
    }.items():
        (clean_folder / f"{name}.jsonl").write_text(json.dumps(head) + "\n", "utf-8")

    ran = llmengine("drift", *arguments)

    assert ran.status == 2
    assert problem in ran.err
    assert ran.err.count("\n") == 1
