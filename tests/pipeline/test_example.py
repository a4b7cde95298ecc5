"""The example of clinical questions, on a real model and on the mock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmengine.pipeline import load_pipeline, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import EngineConfig

EXAMPLE = Path(__file__).parents[2] / "examples" / "engine_clinical_qa.yaml"


def test_on_the_embedded_engine(
    embedded: EngineConfig, lines: Callable[[Path], list[Any]], tmp_path: Path
) -> None:
    """SmolLM2 answers both steps, and the second step reads the answer of the first."""
    pipeline = load_pipeline(EXAMPLE).on(embedded)

    report = run(pipeline.chain, pipeline.records()[:2], pipeline.engines, out=tmp_path)

    assert report.counts == {"records": 2, "answered": 2, "failed": 0, "pending": 0}
    for record, row in zip(report.records, lines(report.folder / "answer.jsonl"), strict=True):
        assert record["outputs"]["extract"]["quote"] in row["prompt"][-1]["content"]
        assert record["outputs"]["answer"]["answer"] in {"yes", "no", "unclear"}
    assert report.usage["total"]["completion_tokens"] > 0


def test_on_the_mock(tmp_path: Path) -> None:
    """The same file runs without any model."""
    pipeline = load_pipeline(EXAMPLE)
    pipeline = pipeline.on(pipeline.engines["mock"])
    with pipeline.engines["mock"].engine:
        report = run(pipeline.chain, pipeline.records(), pipeline.engines, out=tmp_path)
    assert report.exit_status == 0
