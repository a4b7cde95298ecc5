"""stream with an output_model: text as it comes, the verdict at the end, never silence."""

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
    """What is asked for."""

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


def test_last_delta_has_what_the_text_means(play: Any) -> None:
    """Texts come first and join to the JSON that was parsed."""
    engine = play.engine()

    *texts, last = engine.stream("A city.", output_model=City)

    text = "".join(d.text for d in texts)
    assert last.parsed == City.model_validate_json(text)
    assert len([d for d in texts if d.text]) > 1
    assert play.asked[0]["stream"] is True
    assert len(play.probes) == 1


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
    play: Any, reply: str, error: type, words: str
) -> None:
    """Everything that came was delivered, and the error holds it once more."""
    engine = play.engine(reply, structured="json_schema")

    deltas, raised = read(engine.stream("A city.", output_model=City))

    assert "".join(d.text for d in deltas) == reply
    assert type(raised) is error
    assert words in str(raised)
    assert raised.partial.outputs[0].text == reply
    assert all(d.parsed is None for d in deltas)
    assert len(play.asked) == 1


def test_cut_answer_is_told_apart(play: Any) -> None:
    """The token limit is named, not the JSON."""
    engine = play.engine(LYON, structured="json_schema", sampling={"max_tokens": 4})

    deltas, raised = read(engine.stream("A city.", output_model=City))

    assert type(raised) is TruncatedError
    assert raised.partial.outputs[0].text == "".join(d.text for d in deltas)


def test_server_that_does_not_enforce_is_asked_in_json_mode(play: Any) -> None:
    """The probe saves the stream from a promise that is not kept; fences are bearable there."""
    engine = play.engine("Paris.", f"```json\n{LYON}\n```")

    *_, last = engine.stream("A city.", output_model=City)

    assert last.parsed == City(name="Lyon", people=520000)
    assert play.formats == ["json_object"]


def test_refused_format_goes_one_step_down(play: Any) -> None:
    """Nothing was delivered yet, so a 400 can be climbed down from."""
    engine = play.engine(LYON, request=play.refusing("json_schema"), structured="json_schema")

    *_, last = engine.stream("A city.", output_model=City)

    assert last.parsed == City(name="Lyon", people=520000)
    assert play.formats == ["json_schema", "json_object"]


def test_error_in_mid_stream_is_not_a_refusal(engine_for: Any, chunk: Any) -> None:
    """What was delivered is not asked for a second time in another format."""
    read_first = threading.Event()

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(chunk('{"name":'))
        assert read_first.wait(5)
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
    """A model that only blanks out is cut off instead of paid for to its token limit."""
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
    assert gone.wait(5)


def test_stream_of_text_may_hold_any_whitespace(engine_for: Any, chunk: Any) -> None:
    """Without an output_model blanks are the model's business."""

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(chunk("a" + " " * 500 + "b"), chunk(finish="stop"), ...)
        connection.chunk(b"")

    engine, _ = engine_for(handler)

    deltas, raised = read(engine.stream("hi"))

    assert raised is None
    assert len("".join(d.text for d in deltas)) == 502
