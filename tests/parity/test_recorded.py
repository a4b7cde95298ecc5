"""Recorded runs of vLLM: each candidate that differs on purpose is detected.

``baselines/README.md`` says how they were made.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_llmengine.parity import Choices, ParityVerdict, Selection, choose, compare, load
from pytest_llmengine.parity.prompts import built_in

if TYPE_CHECKING:
    from pytest_llmengine.parity import ParityReport, Side

pytestmark = pytest.mark.parity

BASELINE = Path(__file__).parents[2] / "baselines" / "vllm-0.32.0-cpu-float32-smollm2-135m.jsonl.gz"
RECORDED = 24  # prompts of the candidates, four of each kind


@pytest.fixture(scope="module")
def baseline() -> Side:
    """In-process vLLM, on a CPU, in float32, with every prompt."""
    return load(BASELINE)


def judged(baseline: Side, candidate: Path, *allowed: str) -> ParityReport:
    """The report on a recorded candidate."""
    side = load(candidate)
    prompts = choose(baseline, side, Selection(limit=RECORDED))
    return compare(baseline, side, prompts, Choices(allowed=allowed))


def test_the_baseline_holds_every_prompt(baseline: Side) -> None:
    """It has the whole present set with its noise floor, and no failure."""
    assert {p.id: p.digest for p in baseline.prompts} == {p.id: p.digest for p in built_in()}
    assert baseline.passes == 4
    assert all(answer.ok for answer in baseline.answers)


def test_vllm_over_http_is_equal(baseline: Side, recorded: Path) -> None:
    """The same model with the same dtype behind vLLM's server gives the same answers."""
    report = judged(baseline, recorded / "http.jsonl.gz")

    assert report.verdict is ParityVerdict.EQUAL, report.reason
    assert len(report.pairs) == RECORDED
    assert all(pair.same_text for pair in report.pairs)


@pytest.mark.parametrize(
    ("candidate", "cause"),
    [
        ("template", "chat_template"),
        ("temperature", "sampling"),
        ("model", "model"),
        ("max_tokens", "max_tokens"),
    ],
)
def test_another_setup_is_named(baseline: Side, recorded: Path, candidate: str, cause: str) -> None:
    """The report names the cause and has no verdict; if allowed, the answers diverge."""
    path = recorded / f"{candidate}.jsonl.gz"

    report = judged(baseline, path)
    compared = judged(baseline, path, cause)

    assert report.verdict is ParityVerdict.NONE
    assert report.reason.startswith(f"mismatch of {cause} ")
    assert compared.verdict is ParityVerdict.DIVERGES


def test_another_dtype_diverges(baseline: Side, recorded: Path) -> None:
    """A server does not give its dtype, but texts show it."""
    report = judged(baseline, recorded / "dtype.jsonl.gz")

    assert report.verdict is ParityVerdict.DIVERGES
    broken = {criterion.name for criterion in report.criteria if criterion.differs}
    assert broken >= {"text", "token ids"}
    assert not report.contradictions


@pytest.mark.parametrize(
    ("ours", "candidate", "verdict", "rows"),
    [
        ("llama_cpp", "llama_cpp_again", "equal within noise", []),
        ("llama_cpp", "llama_cpp_kv_q8", "diverges", ["text", "log-probabilities"]),
        ("vllm_local", "vllm_http", "equal within noise", []),
        ("vllm_local_bfloat16", "vllm_http_bfloat16_idle", "equal within noise", []),
        (
            "vllm_local_bfloat16",
            "vllm_http_bfloat16_busy",
            "diverges",
            ["text", "token ids", "log-probabilities"],
        ),
    ],
)
def test_pairs_with_every_pass(
    recorded: Path, ours: str, candidate: str, verdict: str, rows: list[str]
) -> None:
    """Another process or the server of an engine is equal, and another computation is not.

    A busy server computes in bfloat16 in other batches, and its baseline was recorded alone.
    """
    sides = load(recorded / f"{ours}.jsonl.gz"), load(recorded / f"{candidate}.jsonl.gz")

    report = compare(*sides, choose(*sides, Selection()), Choices())

    assert report.verdict.value == verdict, report.reason
    assert [criterion.name for criterion in report.criteria if criterion.differs] == rows
    assert not report.notes
    assert not report.contradictions


def test_a_stated_dtype_is_a_mismatch(baseline: Side, recorded: Path) -> None:
    """If the user states it, the cause is named before any number."""
    side = load(recorded / "dtype.jsonl.gz")
    stated = replace(side, facts=side.facts.with_stated(["dtype=bfloat16"]))
    prompts = choose(baseline, stated, Selection(limit=RECORDED))

    report = compare(baseline, stated, prompts, Choices())

    assert report.verdict is ParityVerdict.NONE
    assert report.reason.startswith("mismatch of dtype (float32 / bfloat16")
