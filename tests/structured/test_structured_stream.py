"""stream with an output_model: the text as it comes, and its value or an error at the end."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydantic import BaseModel

from llmengine import (
    BadRequestError,
    CallError,
    StructuredOutputError,
    TruncatedError,
    WhitespaceLoopError,
)

LYON = '{"name": "Lyon", "people": 520000}'


class City(BaseModel):
    """The output model."""

    name: str
    people: int


def read(deltas: Any) -> tuple[list[Any], CallError | None]:
    """All deltas, and the error that ended them."""
    read: list[Any] = []
    try:
        read.extend(deltas)
    except CallError as error:
        return read, error
    return read, None


def test_last_delta_has_what_the_text_means(mock_servers: Any) -> None:
    """Texts come first and join to the JSON that was parsed."""
    engine = mock_servers.engine()

    *texts, last = engine.stream("A city.", output_model=City)

    text = "".join(d.text for d in texts)
    assert last.parsed == City.model_validate_json(text)
    assert len([d for d in texts if d.text]) > 1
    assert mock_servers.requests[0]["stream"] is True
    assert len(mock_servers.probes) == 1


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        ("Lyon.", StructuredOutputError, "the answer is not a valid City"),
        ('{"name": "Lyon"}', StructuredOutputError, "people: Field required"),
        (f"```json\n{LYON}\n```", StructuredOutputError, "Invalid JSON"),
        ("", StructuredOutputError, "the answer is empty"),
    ],
)
def test_answer_that_does_not_fit_raises_after_its_last_delta(
    mock_servers: Any, reply: str, error: type, words: str
) -> None:
    """All text was delivered, and the error holds it too."""
    engine = mock_servers.engine(reply, structured="json_schema")

    deltas, raised = read(engine.stream("A city.", output_model=City))

    assert "".join(d.text for d in deltas) == reply
    assert type(raised) is error
    assert words in str(raised)
    assert raised.partial.outputs[0].text == reply
    assert all(d.parsed is None for d in deltas)
    assert len(mock_servers.requests) == 1


def test_cut_answer_has_its_own_error(mock_servers: Any) -> None:
    """The error names the token limit, not the JSON."""
    engine = mock_servers.engine(LYON, structured="json_schema", sampling={"max_tokens": 4})

    deltas, raised = read(engine.stream("A city.", output_model=City))

    assert type(raised) is TruncatedError
    assert raised.partial.outputs[0].text == "".join(d.text for d in deltas)


def test_server_that_does_not_enforce_is_asked_in_json_mode(mock_servers: Any) -> None:
    """The probe finds it before the stream; JSON mode may have fences."""
    engine = mock_servers.engine("Paris.", f"```json\n{LYON}\n```")

    *_, last = engine.stream("A city.", output_model=City)

    assert last.parsed == City(name="Lyon", people=520000)
    assert mock_servers.formats == ["json_object"]


def test_refused_format_is_followed_by_the_next(mock_servers: Any) -> None:
    """Nothing was delivered yet, so the next strategy can be used after a 400."""
    engine = mock_servers.engine(
        LYON, request=mock_servers.refusing("json_schema"), structured="json_schema"
    )

    *_, last = engine.stream("A city.", output_model=City)

    assert last.parsed == City(name="Lyon", people=520000)
    assert mock_servers.formats == ["json_schema", "json_object"]


def test_error_in_mid_stream_is_not_a_refusal(engine_for: Any, chunk: Any) -> None:
    """Delivered text is not asked for again in another format."""
    read_first = threading.Event()

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(chunk('{"name":'))
        assert read_first.wait(30)
        connection.sse({"error": {"message": "grammar died", "code": 400}}, ...)
        connection.chunk(b"")

    engine, server = engine_for(handler, structured="json_schema")

    deltas = engine.stream("A city.", output_model=City)
    assert next(deltas).text == '{"name":'
    read_first.set()
    _, raised = read(deltas)

    assert type(raised) is BadRequestError
    assert raised.partial.outputs[0].text == '{"name":'
    assert len(server.requests) == 1


def test_whitespace_loop_hangs_up(engine_for: Any, chunk: Any) -> None:
    """A model that writes only blanks is cut off before its token limit."""
    gone = threading.Event()

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        try:
            connection.sse(chunk('{"name":'))
            for _ in range(2000):
                connection.sse(chunk(" \n"))
                connection.pause(0.001)
        except OSError:
            gone.set()
            raise

    engine, _ = engine_for(handler, structured="json_schema")

    deltas, raised = read(engine.stream("A city.", output_model=City))

    assert type(raised) is WhitespaceLoopError
    assert raised.partial.outputs[0].text.startswith('{"name":')
    assert 64 < len("".join(d.text for d in deltas)) < 2000
    assert gone.wait(30)


def test_stream_of_text_may_hold_any_whitespace(engine_for: Any, chunk: Any) -> None:
    """Without an output_model any blanks are text."""

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(chunk("a" + " " * 500 + "b"), chunk(finish="stop"), ...)
        connection.chunk(b"")

    engine, _ = engine_for(handler)

    deltas, raised = read(engine.stream("hi"))

    assert raised is None
    assert len("".join(d.text for d in deltas)) == 502
