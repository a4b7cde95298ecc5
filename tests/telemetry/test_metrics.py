"""Metrics by OpenTelemetry's conventions for generative AI."""

from __future__ import annotations

from typing import Any

from llmengine import SamplingParams
from llmengine.mock import Fault


def test_tokens_and_duration(counted_server: Any, exported: Any) -> None:
    """Both histograms have the server's counts, by engine, model and type of token."""
    s = counted_server(faults=[None, Fault(status=503)])

    s.engine.results(["a", "b"])

    points = exported.points
    tokens = {p.attributes["gen_ai.token.type"]: p for p in points["gen_ai.client.token.usage"]}
    assert tokens["input"].sum == s.generated.prompt_tokens
    assert tokens["output"].sum == s.generated.completion_tokens
    assert tokens["input"].explicit_bounds[:4] == (1, 4, 16, 64)
    (duration,) = points["gen_ai.client.operation.duration"]
    assert duration.count == 2
    assert dict(duration.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai_compatible",
        "gen_ai.request.model": "mock",
        "gen_ai.response.model": "mock",
        "server.address": "127.0.0.1",
        "server.port": int(s.server.root_url.rpartition(":")[2]),
    }


def test_failures_have_their_type(counted_server: Any, exported: Any) -> None:
    """The duration of a failed call has its error type, and there are no tokens."""
    s = counted_server(faults=[Fault(status=500)], max_retries=0)

    s.engine.results("a")

    points = exported.points
    (duration,) = points["gen_ai.client.operation.duration"]
    assert duration.attributes["error.type"] == "InternalServerError"
    assert "gen_ai.client.token.usage" not in points


def test_first_content_of_a_stream(counted_server: Any, exported: Any) -> None:
    """The time to the first content is measured for streams only."""
    s = counted_server(faults=[None, Fault(delay=0.03)])

    s.engine.results("a")
    list(s.engine.stream("b", SamplingParams(max_tokens=3)))

    (first,) = exported.points["gen_ai.client.operation.time_to_first_chunk"]
    assert first.count == 1
    assert first.sum >= 0.03
