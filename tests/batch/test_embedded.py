"""A batch on a real model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine import Engine, EngineConfig, run_batch

if TYPE_CHECKING:
    from pathlib import Path

    from tests.batch.conftest import Kit


@pytest.fixture(scope="module")
def real(embedded: EngineConfig) -> Engine:
    """The embedded engine."""
    return embedded.engine


def test_twenty_lines_on_a_real_model(kit: Kit, real: Engine, output: Path) -> None:
    """Every line has a text, the tokens add up, and a second run sends nothing."""
    requests: list[dict[str, Any]] = [
        kit.request(
            f"r{i}",
            body={
                "messages": [{"role": "user", "content": f"What is {i} plus one?"}],
                "max_tokens": 4,
                "temperature": 0,
            },
        )
        for i in range(20)
    ]

    report = run_batch(requests, output, real)

    assert report.ok, report.errors
    lines = kit.read(output)
    assert all(kit.text(line).strip() for line in lines)
    used = [line["response"]["body"]["usage"]["total_tokens"] for line in lines]
    assert report.progress.usage.total_tokens == sum(used)
    assert run_batch(requests, output, real).progress.attempts == 0
