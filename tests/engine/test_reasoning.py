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
    """Off is what such a backend does anyway; no text is taken for reasoning then."""
    server = raw_server(lambda _, c: c.reply(chat("<think>a</think>b")))
    config = EngineConfig(backend="embedded", model="smollm2-135m", endpoint=server.url)

    (output,) = config.engine.generate("a", reasoning=False)

    assert b"reason" not in server.requests[0].body
    assert output.outputs[0].text == "<think>a</think>b"
    assert caplog.records == []


@pytest.mark.parametrize("text", ["a\n</think>\n\nb", "<think>a</think>b"])
def test_no_text_is_moved_where_no_reasoning_was_asked_for(
    engine_for: Any, chat: Any, chunk: Any, text: str
) -> None:
    """With ``reasoning=False`` the text is the text, whole and streamed."""

    def handler(request: Any, connection: Any) -> None:
        if not request.json.get("stream"):
            connection.reply(chat(text))
            return
        connection.start_sse()
        connection.sse(*(chunk(c) for c in text), chunk(finish="stop"), ...)
        connection.chunk(b"")

    engine, _ = engine_for(handler)

    (output,) = engine.generate("hi", reasoning=False)
    deltas = list(engine.stream("hi", reasoning=False))

    assert (output.outputs[0].text, output.reasoning) == (text, None)
    assert "".join(d.text for d in deltas) == text
    assert not any(d.reasoning for d in deltas)
    assert engine.generate("hi", reasoning=True)[0].reasoning is not None
