"""Servers of vLLM 0.32 on a CPU, recorded by benchmarks/vllm_drift.py, judged without vLLM."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmengine.drift import DriftReport, DriftTier, DriftVerdict, judge, load

RECORDED = Path(__file__).parent / "recorded_vllm"
LOGPROBS, WEIGHTS = DriftTier.LOGPROBS, DriftTier.WEIGHTS
ONE_TOKEN = {"log-probabilities", "text", "token ids"}
FOUND = {
    ("none", LOGPROBS): set(),
    ("none", WEIGHTS): set(),
    ("another-template", LOGPROBS): {*ONE_TOKEN, "usage"},
    ("another-template", WEIGHTS): {"margins"},
    ("hidden-system-prompt", LOGPROBS): {*ONE_TOKEN, "usage"},
    ("hidden-system-prompt", WEIGHTS): {"margins"},
    ("temperature-0-05", LOGPROBS): {"text", "token ids"},
    ("temperature-0-05", WEIGHTS): {"likelihood"},
    ("repetition-penalty-1-02", LOGPROBS): set(),
    ("repetition-penalty-1-02", WEIGHTS): {"margins"},
    ("bfloat16", LOGPROBS): ONE_TOKEN,
    ("bfloat16", WEIGHTS): {"margins"},
    ("weights-of-8-bits", LOGPROBS): ONE_TOKEN,
    ("weights-of-8-bits", WEIGHTS): {"margins"},
    ("older-vllm", LOGPROBS): set(),
}
"""The rows that find each change."""


def _report(change: str, tier: DriftTier) -> DriftReport:
    baseline = load(RECORDED / f"baseline.{tier}.jsonl.gz")
    candidate = load(RECORDED / f"{change}.{tier}.jsonl.gz")
    return judge(baseline, candidate.sessions, power=False)


@pytest.mark.parametrize(("change", "tier"), FOUND)
def test_a_server_is_judged_as_the_docs_say(change: str, tier: DriftTier) -> None:
    """Every row finds what it found when the table in BENCHMARK.md was made, and no other."""
    report = _report(change, tier)
    found = {r.evidence for r in report.rows if r.adjusted and r.adjusted <= report.alpha}
    assert found == FOUND[change, tier]
    assert report.verdict is (DriftVerdict.CHANGED if found else DriftVerdict.SAME)
    assert report.requests == 100


def test_another_sampler_is_not_another_model() -> None:
    """The margins of vLLM 0.27, which has other noise, are not compared, so nothing is certain."""
    report = _report("older-vllm", WEIGHTS)
    assert report.verdict is DriftVerdict.UNKNOWN
    assert "does not sample with the noise of the reference" in report.reason
