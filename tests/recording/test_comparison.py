"""The comparison of two answers: the tiers, and what is said about the changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from vcr.request import Request

from pytest_llmengine.recording.cassette import RecordedAnswer
from pytest_llmengine.recording.cassette_file import RecordedExchange
from pytest_llmengine.recording.chunks import Timeline
from pytest_llmengine.recording.comparison import Comparison, compare
from pytest_llmengine.recording.json_path import JSONPath


def answer(
    body: bytes | dict[str, Any], status: int = 200, kind: str = "application/json"
) -> RecordedAnswer:
    """An answer with this body, in one chunk."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RecordedAnswer(status, "OK", (("content-type", kind),), data, Timeline.whole(data))


def chat(text: str | None = "Hello", finish: str = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion."""
    message = {"role": "assistant", "content": text} | more.pop("message", {})
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "chatcmpl-1", "created": 1, "model": "m", "choices": [choice], **more}


def stream(*events: dict[str, Any], done: bool = True) -> RecordedAnswer:
    """A stream of server-sent events."""
    lines = [f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"] * done
    return answer("".join(lines).encode(), kind="text/event-stream")


def delta(finish: str | None = None, **members: Any) -> dict[str, Any]:
    """A chunk of a chat completion."""
    return {"id": "c", "choices": [{"index": 0, "delta": members, "finish_reason": finish}]}


def compared(old: RecordedAnswer, new: RecordedAnswer) -> Comparison:
    """The comparison of two answers to one request."""
    return compare("a.yaml", RecordedExchange(1, Request("POST", "http://x/v1", b"", {}), old), new)


def call(name: str, arguments: str) -> dict[str, Any]:
    """A message that calls a tool."""
    return {"tool_calls": [{"id": "1", "function": {"name": name, "arguments": arguments}}]}


@pytest.mark.parametrize(
    ("new", "tier"),
    [
        (chat(), "identical"),
        (chat() | {"id": "chatcmpl-2", "created": 2}, "volatile"),
        (chat("Good day"), "shape"),
        (chat(service_tier="default"), "outcome"),
        (chat() | {"created": None}, "outcome"),
        (chat(finish="length"), "different"),
        (chat(message=call("f", "{}")), "different"),
        (chat(None, message={"refusal": "No."}), "different"),
        ({"error": {"message": "no"}}, "different"),
    ],
    ids=["same", "ids", "words", "field", "type", "finish", "call", "refusal", "error"],
)
def test_tiers(new: dict[str, Any], tier: str) -> None:
    """Each kind of change has its tier."""
    assert compared(answer(chat()), answer(new)).tier == tier


def test_status_and_tool_are_part_of_the_outcome() -> None:
    """Another status, or a call of another tool, is another outcome; other arguments are not."""
    before = answer(chat(None, message=call("f", '{"a": 1}')))
    assert compared(before, answer(chat(None, message=call("f", '{"a": 2}')))).tier == "shape"
    assert compared(before, answer(chat(None, message=call("g", '{"a": 1}')))).tier == "different"
    assert compared(answer(chat()), answer(chat(), 201)).tier == "different"
    again = call("f", '{"a": 1}')
    again["tool_calls"][0]["id"] = "2"
    assert compared(before, answer(chat(None, message=again))).tier == "volatile"


@pytest.mark.parametrize(
    ("text", "tier"),
    [('{"a": 2}', "shape"), ("Sure! {}", "different"), ('{"a": ', "different")],
    ids=["values", "prose", "cut"],
)
def test_json_text_is_part_of_the_outcome(text: str, tier: str) -> None:
    """A program that parses the text breaks if it is no longer JSON; other values are a shape."""
    assert compared(answer(chat('{"a": 1}')), answer(chat(text))).tier == tier


def test_dimensions_are_part_of_the_shape() -> None:
    """Vectors of another length are another shape; other numbers are not."""

    def vector(*numbers: float) -> RecordedAnswer:
        return answer({"data": [{"embedding": list(numbers)}]})

    assert compared(vector(0.5, 0.25), vector(0.1, 0.2)).tier == "shape"
    assert compared(vector(0.5, 0.25), vector(0.1, 0.2, 0.3)).tier == "outcome"


def test_the_id_of_a_model_is_its_name() -> None:
    """Another id of an answer is volatile, and another model in the list is not."""
    models = {"object": "list", "data": [{"id": "m", "object": "model", "created": 1}]}
    later = {"object": "list", "data": [{"id": "m", "object": "model", "created": 2}]}
    other = {"object": "list", "data": [{"id": "n", "object": "model", "created": 1}]}
    assert compared(answer(models), answer(later)).tier == "volatile"
    assert compared(answer(models), answer(other)).tier == "shape"


def test_streams_are_compared_by_what_they_say() -> None:
    """Text, tool calls and choices that were cut in another way are the same."""
    old = stream(
        delta(role="assistant", content="Hel"),
        delta(content="lo"),
        delta(tool_calls=[{"index": 0, "id": "1", "function": {"name": "f", "arguments": "{"}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": "}"}}]),
        delta("tool_calls"),
    )
    new = stream(
        delta(role="assistant", content="Hello"),
        delta(
            "tool_calls",
            tool_calls=[{"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}],
        ),
    )
    assert compared(old, new).tier == "identical"
    assert (
        compared(old, stream(delta("tool_calls", role="assistant", content="Hello"))).tier
        == "different"
    )


def test_typed_events_are_joined_by_their_part() -> None:
    """Deltas of one part of a response are one text, and those of another part are not."""

    def part(index: int, text: str, number: int) -> dict[str, Any]:
        kind = "response.output_text.delta"
        return {"type": kind, "content_index": index, "delta": text, "sequence_number": number}

    old = stream(part(0, "Hel", 1), part(0, "lo", 2), part(1, "!", 3), done=False)
    assert (
        compared(old, stream(part(0, "Hello", 1), part(1, "!", 2), done=False)).tier == "identical"
    )
    assert compared(old, stream(part(0, "Hello!", 1), done=False)).tier != "identical"


def test_changes_name_their_place() -> None:
    """A change has its path and both values; what was redacted is not compared and not shown."""
    old = chat("Dear [redacted],") | {"user": "[redacted]", "n": 1}
    new = chat("Dear Ada,") | {"user": "ada@example.com", "n": 2}

    found = compared(answer(old), answer(new))

    assert found.changes == ("n: 1 became 2",)


def test_volatile_paths_of_a_project() -> None:
    """What a project names differs in every answer too."""
    exchange = RecordedExchange(1, Request("POST", "http://x/v1", b"", {}), answer(chat(n=1)))
    volatile = (JSONPath.parse("$.n"),)

    assert compare("a.yaml", exchange, answer(chat(n=2)), volatile).tier == "volatile"
    assert compare("a.yaml", exchange, answer(chat(n="2")), volatile).tier == "outcome"


def test_deep_bodies() -> None:
    """A body that is nested very deeply is compared as a whole."""
    deep = b"[" * 900 + b"1" + b"]" * 900

    assert compared(answer(deep), answer(deep)).tier == "identical"
    assert compared(answer(deep), answer(deep.replace(b"1", b"2"))).tier == "different"


def test_comparisons_travel_as_plain_values() -> None:
    """What pytest-xdist sends from a worker becomes the same comparison again."""
    found = compared(answer(chat()), answer(chat("Good day")))

    assert type(found.to_dict()["tier"]) is str
    assert Comparison.from_dict(found.to_dict()) == found


def test_who_closed_a_stream() -> None:
    """A stream that the server cut is another outcome, even if it has the same text."""
    whole = stream(delta("stop", content="Hi"))
    cut = RecordedAnswer(200, "OK", whole.headers, whole.body, whole.timeline, "upstream")

    found = compared(whole, cut)

    assert (found.tier, found.changes) == (
        "different",
        ("closed early by: no one became upstream",),
    )
