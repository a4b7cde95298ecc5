"""The real small model: two processes of it are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.drift import (
    DriftPrompt,
    DriftTier,
    DriftVerdict,
    Probe,
    RoundKind,
    load,
    save,
)
from pytest_llmengine.drift.live import Effort, check, record
from pytest_llmengine.drift.measure import SAMPLING
from pytest_llmengine.targets import Mode, Settings, open_session

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine import EngineConfig

PROBE = Probe(
    tier=DriftTier.LOGPROBS,
    sampling=SAMPLING,
    prompts=(DriftPrompt(text="amber harbour"), DriftPrompt(text="quiet river")),
    loads=(1, 2),
)


def test_two_processes_of_one_model_are_the_same(embedded: EngineConfig, tmp_path: Path) -> None:
    """The baseline is saved and read, as in a nightly job."""
    path, settings = tmp_path / "base.jsonl.gz", Settings(mode=Mode.LIVE)
    with open_session("embedded", settings) as session:
        save(record(session, PROBE, effort=Effort(2, {RoundKind.FIRST: 3})), path)
    with open_session("embedded", settings) as session:
        effort = Effort(1, {RoundKind.FIRST: 5})
        report = check(session, load(path), effort=effort)

    assert report.verdict is DriftVerdict.SAME, report.reason
    assert report.facts is not None
    assert (report.facts.server, report.facts.model) == ("llama.cpp", embedded.model)
    assert report.facts.context
    assert report.facts.weights == report.baseline.facts.weights != ""
    assert len(report.baseline.sessions[0].rounds[0].answers[0].top or ()) == 20
