"""How replies are read: events, error envelopes and the outcomes that they cause."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
import pytest

from pytest_llmengine.contract import Refused, Reply
from pytest_llmengine.contract.assertions import rejected
from pytest_llmengine.contract.outcomes import Fail, NoVerdict
from pytest_llmengine.contract.reply import Chunk, Event, parse_events

DONE = b"data: [DONE]\n\n"


def reply(body: bytes | object, status: int = 200, *, cut: bool = False, kind: str = "") -> Reply:
    """A reply of one chunk; a body other than bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = httpx.Headers({"content-type": kind})
    return Reply("POST", "/chat/completions", status, headers, (Chunk(0.0, data),), cut)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_end_in_any_line_ending(end: str) -> None:
    """LF, CRLF and CR all end a line."""
    body = f"data: one{end}{end}data: two{end}{end}".encode()
    assert parse_events(body) == [Event("one"), Event("two")]


@pytest.mark.parametrize(
    ("body", "events"),
    [
        pytest.param(b": keep-alive\n\ndata: a\n\n", [Event("a")], id="comment"),
        pytest.param(b"data: a\ndata: b\n\n", [Event("a\nb")], id="several data lines"),
        pytest.param(b"event: ping\ndata: a\n\n", [Event("a", "ping")], id="name"),
        pytest.param(b"event: ping\n\ndata: a\n\n", [Event("a")], id="name without data"),
        pytest.param(b"data:a\n\n", [Event("a")], id="no space"),
        pytest.param(b"data:  a\n\n", [Event(" a")], id="one space is taken off"),
        pytest.param(b"data\n\n", [Event("")], id="no colon"),
        pytest.param(b"id: 1\nretry: 5\ndata: a\n\n", [Event("a")], id="other fields"),
        pytest.param(b"\xef\xbb\xbfdata: a\n\n", [Event("a")], id="byte order mark"),
        pytest.param(b"data: a", [Event("a")], id="no blank line at the end"),
        pytest.param(b"data: \xff\n\n", [Event("\ufffd")], id="a byte that is not UTF-8"),
        pytest.param(b"{}", [], id="no event stream"),
        pytest.param(b"", [], id="empty"),
    ],
)
def test_events_follow_the_grammar(body: bytes, events: list[Event]) -> None:
    """Comments, names, several data lines and unfinished ends are read as the grammar says."""
    assert parse_events(body) == events


def test_the_body_is_its_chunks_joined() -> None:
    """Bytes that were split inside a character are one text again."""
    data = "data: 🦊".encode()
    chunks = (Chunk(0.1, data[:8]), Chunk(0.2, data[8:]))
    assert Reply("GET", "/", 200, httpx.Headers(), chunks).text == "data: 🦊"


def test_the_content_type_is_bare_and_in_lower_case() -> None:
    """Parameters and case of a content type do not matter."""
    assert reply(b"", kind="Text/Event-Stream; charset=utf-8").content_type == "text/event-stream"


@pytest.mark.parametrize("body", [b"", b"oops", b"[1]", b'"text"', b"null"])
def test_a_body_that_is_not_an_object_fails(body: bytes) -> None:
    """A 200 whose body is not a JSON object fails the check, with the body in the reason."""
    with pytest.raises(Fail, match=r"POST /chat/completions: the body is not") as end:
        reply(body).success()
    assert body.decode() in str(end.value)


@pytest.mark.parametrize(
    ("status", "message", "fact"),
    [
        (500, "", ""),
        (404, "The route was not found here", "POST /x: 404 The route was not found here"),
        (400, "Bad request", "POST /x: 400 Bad request"),
        (500, "No images with 7 pixels: {1}", "500 No images with # pixel:"),
    ],
)
def test_routes_share_the_cause_of_a_message_of_several_words(
    status: int, message: str, fact: str
) -> None:
    """Few words may have any cause, and a 404 is about its route."""
    body = {"error": {"message": message}}
    assert replace(reply(body, status), path="/x").cause == fact


def test_a_long_body_is_quoted_in_part() -> None:
    """The reason stays short."""
    with pytest.raises(Fail) as end:
        reply(b"x" * 100_000).success()
    assert len(str(end.value)) < 500


@pytest.mark.parametrize("status", [201, 204, 302, 400, 500])
def test_success_is_a_200(status: int) -> None:
    """Any other status fails the check and is named."""
    with pytest.raises(Fail, match=f"{status} instead of 200"):
        reply({"error": {"message": "no"}}, status).success()


@pytest.mark.parametrize("status", [400, 404, 422, 501])
def test_an_error_with_a_message_is_a_refusal(status: int) -> None:
    """A 4xx or 501 with a message ends the check as refused, whole or streamed."""
    refusing = reply({"error": {"message": "not supported"}}, status)
    for ask in (refusing.success_or_refused, refusing.objects_or_refused):
        with pytest.raises(Refused, match=f"{status} “not supported”"):
            ask()


@pytest.mark.parametrize("status", [401, 403, 408, 429])
def test_a_refusal_of_the_client_is_not_a_verdict(status: int) -> None:
    """A status that refuses the client says nothing about the rule, whatever was expected."""
    refusing = reply({"error": {"message": "slow down"}}, status)
    for ask in (
        refusing.success,
        refusing.success_or_refused,
        refusing.objects_or_refused,
        lambda: rejected(refusing, "a bad request"),
    ):
        with pytest.raises(NoVerdict, match=f"{status} .*refuses the client"):
            ask()


def test_equal_messages_are_one_fact() -> None:
    """Two refusals with the same message have one cause, and another message is another cause."""
    facts = []
    for message in ("no 'tools' here", "no 'stop' here", "out of memory"):
        with pytest.raises(Refused) as end:
            reply({"error": {"message": message}}, 400).success_or_refused()
        facts.append(end.value.fact)
    assert facts[0] == facts[1] != facts[2]


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), ({}, 400), ({"error": {"message": ""}}, 404), ({"error": {"message": "no"}}, 500)],
)
def test_an_error_without_a_message_is_a_failure(body: object, status: int) -> None:
    """A 4xx without a message, and a 500 with one, fail the check."""
    refusing = reply(body, status)
    for ask in (refusing.success_or_refused, refusing.objects_or_refused):
        with pytest.raises(Fail, match=f"{status} instead of 200"):
            ask()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "m", "code": None}}, "m"),
        ({"error": "m"}, "m"),
        ({"object": "error", "message": "m"}, "m"),
        ({"detail": "m"}, "m"),
        ({"detail": [{"loc": ["body"], "msg": "m"}]}, "m"),
        ({"error": {"message": None}}, ""),
        ({"error": {}}, ""),
        ({"error": []}, ""),
        ({"error": 7}, ""),
        (["m"], "m"),
        (b"not JSON", ""),
        (b"", ""),
    ],
)
def test_message_is_found_in_every_envelope(body: object, words: str) -> None:
    """The envelopes of OpenAI, Ollama, SGLang and FastAPI all give their message."""
    assert reply(body, 400).error_message == words


def test_objects_are_the_events_without_done() -> None:
    """The JSON objects of a stream come in order, without ``[DONE]``."""
    assert reply(b'data: {"a": 1}\n\ndata: {"a": 2}\n\n' + DONE).objects() == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"data: oops\n\n", "an event is not JSON: “oops”"),
        (b"data: [1]\n\n", r"an event is not a JSON object: “\[1\]”"),
        (DONE, "a stream without events"),
        (b"{}", "a stream without events"),
        (b"", "a stream without events"),
    ],
)
def test_a_broken_stream_fails(body: bytes, reason: str) -> None:
    """Events that are not objects, and a stream without any, fail the check."""
    with pytest.raises(Fail, match=reason):
        reply(body).objects()


def test_a_cut_stream_fails() -> None:
    """A stream whose connection broke fails the check, even if all its events are whole."""
    with pytest.raises(Fail, match="broke in mid-stream"):
        reply(b'data: {"a": 1}\n\n' + DONE, cut=True).objects()
