"""`llmengine drift watch` and `accept`: exit statuses, the journal, and mistakes of users."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Behaviour, Fault, MockServer
from pytest_llmengine.drift import DriftPrompt, DriftTier, Probe, RoundKind, save
from pytest_llmengine.drift.live import Effort, record
from pytest_llmengine.drift.measure import SAMPLING
from pytest_llmengine.targets import Mode, Settings, open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROBE = Probe(
    tier=DriftTier.LOGPROBS,
    sampling=SAMPLING,
    prompts=(DriftPrompt(text="amber harbour"), DriftPrompt(text="quiet river")),
    loads=(2,),
)
FILE = Path("base.jsonl.gz")
JOURNAL = Path("base.journal.jsonl")


def _louder(body: dict[str, Any], call: Any) -> dict[str, Any]:
    """Another model, which prefers other tokens, and does not contradict itself."""
    for choice in body.get("choices", ()):
        choice["message"]["content"] = "LOUD"
        for entry in (choice["logprobs"] or {}).get("content", ()):
            for one in (entry, entry["top_logprobs"][0]):
                one |= {"token": "LOUD", "bytes": list(b"LOUD")}
    return body


def write_baseline(server: MockServer, sessions: int = 20) -> None:
    """Record a baseline of few requests."""
    settings = Settings(url=server.base_url, mode=Mode.LIVE)
    with open_session("openai_compatible", settings) as session:
        effort = Effort(sessions, {RoundKind.FIRST: 4})
        save(record(session, PROBE, url=server.base_url, effort=effort), FILE)


@pytest.fixture
def server(clean_folder: Path) -> Iterator[MockServer]:
    """A server; the folder of the test is the current one."""
    assert clean_folder.is_dir()
    with MockServer() as server:
        yield server


@pytest.fixture
def other() -> Iterator[MockServer]:
    """A server with another model."""
    with MockServer(behaviour=Behaviour(reply=_louder)) as server:
        yield server


def test_nights_until_a_change_is_accepted(
    llmengine: Callable[..., Any], server: MockServer, other: MockServer
) -> None:
    """The alarm comes within the nights that the report said, stays, and ends with accept."""
    write_baseline(server)
    same = llmengine("drift", "watch", FILE, "--report", "w.json", "--report", "w.html")
    rows = json.loads(Path("w.json").read_text("utf-8"))["rows"]
    promised = max(row["looks_to_alarm"] for row in rows)
    nights = [llmengine("drift", "watch", FILE, "--url", other.base_url) for _ in range(promised)]
    back = llmengine("drift", "watch", FILE)
    accepted = llmengine("drift", "accept", FILE, "--url", other.base_url)
    after = llmengine("drift", "watch", FILE)

    assert same.status == 0, same.err
    assert "same: no evidence of a change in 1 look: the largest e-value is 1" in same.out
    assert "<svg" in Path("w.html").read_text("utf-8")
    assert nights[0].status == 0, nights[0].out
    assert nights[-1].status == 1
    assert "changed, as the look of" in nights[-1].out
    assert back.status == 1
    assert accepted.status == 0, accepted.err
    assert "cost 160 requests" in accepted.out
    assert after.status == 0, after.err
    assert f"1 look, and {promised + 2} at earlier baselines" in after.out


def test_a_look_that_failed(llmengine: Callable[..., Any], server: MockServer) -> None:
    """It is written, but it does not count."""
    write_baseline(server)
    server.when(contains="quiet river").reply(Fault(status=400))
    failed = llmengine("drift", "watch", FILE)
    assert failed.status == 2
    assert "cannot tell: this look does not count: a request failed" in failed.out
    look = json.loads(JOURNAL.read_text("utf-8").splitlines()[-1])
    assert (look["requests"], "scores" in look) == (4, False)


def test_a_torn_line_is_said(llmengine: Callable[..., Any], server: MockServer) -> None:
    """A run was killed while it wrote."""
    write_baseline(server)
    llmengine("drift", "watch", FILE)
    JOURNAL.write_text(JOURNAL.read_text("utf-8") + '{"date":"20', encoding="utf-8")
    found = llmengine("drift", "watch", FILE)
    assert found.status == 0
    assert "the last line of the journal was not complete" in " ".join(found.out.split())
    assert "in 2 looks" in found.out


def test_what_is_refused(llmengine: Callable[..., Any], server: MockServer) -> None:
    """A baseline of few sessions, the journal of another baseline, and another rate."""
    write_baseline(server, sessions=4)
    few = llmengine("drift", "watch", FILE)
    assert few.status == 2
    assert "the baseline has 4 sessions, and a watch needs 20" in few.out
    assert not JOURNAL.exists()

    write_baseline(server)
    llmengine("drift", "watch", FILE, "--alpha", 0.05)
    rate = llmengine("drift", "watch", FILE, "--alpha", 0.01)
    assert (rate.status, rate.err.count("\n")) == (2, 1)
    assert "has a false-alarm rate of 0.05" in rate.err

    write_baseline(server)
    journal = llmengine("drift", "watch", FILE)
    assert (journal.status, journal.err.count("\n")) == (2, 1)
    assert "base.journal.jsonl belongs to another baseline" in journal.err
