"""Reasoning asked for where there is some, and where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from llmengine import EngineConfig


def test_reasoning_is_asked_for_and_read(engine_for: Any, chat: Any) -> None:
    """The effort goes to the server; what it thought comes back apart from the text."""
    message = {"role": "assistant", "content": "Four.", "reasoning_content": "2 + 2"}
    engine, server = engine_for(lambda _, c: c.reply(chat(message=message)), reasoning="low")

    (output,) = engine.generate("2 + 2?")

    assert server.requests[0].json["reasoning_effort"] == "low"
    assert (output.outputs[0].text, output.reasoning) == ("Four.", "2 + 2")


@pytest.mark.parametrize("asked", [{"reasoning": "high"}, {"reasoning": True}])
def test_reasoning_is_left_out_aloud_where_there_is_none(
    raw_server: Any, chat: Any, caplog: pytest.LogCaptureFixture, asked: dict[str, Any]
) -> None:
    """A backend without reasoning is not asked for it, and one warning says so."""
    server = raw_server(lambda _, c: c.reply(chat()))
    config = EngineConfig(backend="embedded", model="smollm2-135m", endpoint=server.url)

    config.engine.generate(["a", "b"], **asked)
    config.engine.generate("c", **asked)

    assert not any("reason" in request.body.decode() for request in server.requests)
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "backend 'embedded' has no reasoning" in warnings[0]


def test_reasoning_that_is_not_wanted_needs_no_warning(
    raw_server: Any, chat: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Off is what such a backend does anyway."""
    server = raw_server(lambda _, c: c.reply(chat()))
    config = EngineConfig(backend="embedded", model="smollm2-135m", endpoint=server.url)

    config.engine.generate("a", reasoning=False)

    assert b"reason" not in server.requests[0].body
    assert caplog.records == []
