"""A tracing backend that raises never costs an answer."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor


class Broken(SpanProcessor):
    """A processor of the user that raises at one of its two hooks."""

    def __init__(self) -> None:
        self.breaks_at = ""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Raise if it is to fail at a span's start."""
        del span, parent_context
        if self.breaks_at == "start":
            raise RuntimeError("the collector is gone")

    def on_end(self, span: Any) -> None:
        """Raise if it is to fail at a span's end."""
        del span
        if self.breaks_at == "end":
            raise RuntimeError("the collector is gone")


@pytest.fixture(scope="module")
def broken(providers: Any) -> Broken:
    """The processor, in the provider of this process."""
    assert providers
    processor = Broken()
    provider: Any = trace.get_tracer_provider()
    provider.add_span_processor(processor)
    return processor


@pytest.mark.parametrize("moment", ["start", "end"])
def test_answers_come_without_their_spans(counted_server: Any, broken: Broken, moment: str) -> None:
    """Whole and streamed, and the usage is counted."""
    engine = counted_server().engine
    broken.breaks_at = moment
    try:
        results = engine.results(["a", "b"])
        deltas = list(engine.stream("c"))
    finally:
        broken.breaks_at = ""

    assert [r.ok for r in results] == [True, True]
    assert all(r.usage is not None for r in results)
    assert deltas[-1].usage is not None
