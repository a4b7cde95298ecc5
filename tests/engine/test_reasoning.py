"""Reasoning for models and backends with it and without it."""

from __future__ import annotations

from typing import Any

import pytest

from llmengine import BadRequestError, EngineConfig


def test_reasoning_is_asked_for_and_read(engine_for: Any, chat: Any) -> None:
    """The effort is sent, and the reasoning comes back apart from the text."""
    message = {"role": "assistant", "content": "Four.", "reasoning_content": "2 + 2"}
    engine, server = engine_for(lambda _, c: c.reply(chat(message=message)), reasoning="low")

    (output,) = engine.generate("2 + 2?")

    assert server.requests[0].json["reasoning_effort"] == "low"
    assert (output.outputs[0].text, output.reasoning) == ("Four.", "2 + 2")


@pytest.mark.parametrize("asked", [{"reasoning": "high"}, {"reasoning": True}])
def test_backend_without_reasoning_is_not_asked_for_it(
    raw_server: Any, chat: Any, caplog: pytest.LogCaptureFixture, asked: dict[str, Any]
) -> None:
    """One warning says so."""
    server = raw_server(lambda _, c: c.reply(chat()))
    config = EngineConfig(backend="embedded", model="smollm2-135m", endpoint=server.url)

    config.engine.generate(["a", "b"], **asked)
    config.engine.generate("c", **asked)

    assert not any("reason" in request.body.decode() for request in server.requests)
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "backend 'embedded' has no reasoning" in warnings[0]


REFUSALS = {
    "Ollama, native": {"error": '"m" does not support thinking'},
    "Ollama, /v1": {"error": {"message": '"m" does not support thinking'}},
    "OpenAI": {
        "error": {
            "message": "Unsupported parameter: 'reasoning_effort' is not supported.",
            "code": "unsupported_parameter",
        }
    },
    "OpenAI, older": {
        "error": {"message": "Unrecognized request argument supplied: reasoning_effort"}
    },
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("output_model", [None, dict[str, int]], ids=["text", "structured"])
def test_model_without_reasoning_is_asked_again_without_it(
    engine_for: Any,
    chat: Any,
    caplog: pytest.LogCaptureFixture,
    refusal: dict[str, Any],
    output_model: Any,
) -> None:
    """After the first refusal no request asks for it; there is one warning."""

    def handler(request: Any, connection: Any) -> None:
        if "reasoning_effort" in request.json:
            connection.reply(refusal, status=400)
        else:
            connection.reply(chat('{"a": 1}'))

    engine, server = engine_for(handler, reasoning=True, structured="json_schema")

    first = engine.results("a", output_model=output_model)
    engine.generate(["b", "c"], output_model=output_model)

    assert [r.output.outputs[0].text for r in first] == ['{"a": 1}']
    assert first[0].attempts == 2
    assert ["reasoning_effort" in r.json for r in server.requests] == [True] + [False] * 3
    assert all("response_format" in r.json for r in server.requests if output_model)
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "model 'm' has no reasoning; the setting True is left out" in warnings[0]


def test_a_stream_leaves_reasoning_out_as_well(engine_for: Any, chunk: Any) -> None:
    """The refusal comes before the first content, so no text comes twice."""

    def handler(request: Any, connection: Any) -> None:
        if "reasoning_effort" in request.json:
            connection.reply(REFUSALS["Ollama, /v1"], status=400)
        else:
            connection.start_sse()
            connection.sse(chunk("Hi"), chunk(finish="stop"), ...)
            connection.chunk(b"")

    engine, server = engine_for(handler)

    assert [d.text for d in engine.stream("a", reasoning="low") if d.text] == ["Hi"]
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "message",
    [
        "invalid reasoning value: 'bogus' (must be 'low', 'medium' or 'high')",
        "Unsupported value: 'reasoning_effort' does not support 'bogus' with this model.",
        "this model does not support tools",
    ],
)
def test_a_wrong_effort_is_the_callers_mistake(engine_for: Any, message: str) -> None:
    """Only the refusal of a model without reasoning is retried; any other is an error."""
    engine, server = engine_for(lambda _, c: c.reply({"error": {"message": message}}, status=400))

    (result,) = engine.results("a", reasoning="bogus")

    assert isinstance(result.error, BadRequestError)
    assert len(server.requests) == 1


def test_reasoning_that_is_not_wanted_needs_no_warning(
    raw_server: Any, chat: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Such a backend does not reason anyway, and no text is taken for reasoning."""
    server = raw_server(lambda _, c: c.reply(chat("<think>a</think>b")))
    config = EngineConfig(backend="embedded", model="smollm2-135m", endpoint=server.url)

    (output,) = config.engine.generate("a", reasoning=False)

    assert b"reason" not in server.requests[0].body
    assert output.outputs[0].text == "<think>a</think>b"
    assert caplog.records == []


@pytest.mark.parametrize("text", ["a\n</think>\n\nb", "<think>a</think>b"])
def test_text_is_not_moved_without_reasoning(
    engine_for: Any, chat: Any, chunk: Any, text: str
) -> None:
    """With ``reasoning=False`` all of the text stays text, whole and streamed."""

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
