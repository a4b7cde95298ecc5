"""Answers against OpenAI's specification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import MockServer
from pytest_llmengine.contract import Target
from pytest_llmengine.contract.response_schema import (
    error_violations,
    event_violations,
    repeated_keys,
    told,
    whole_violations,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_llmengine.contract.response_schema import Violation

CHAT, COMPLETIONS, RESPONSES = "POST /chat/completions", "POST /completions", "POST /responses"
PING = {"type": "function", "function": {"name": "ping", "parameters": {"type": "object"}}}


def named(violations: set[Violation]) -> dict[str, bool]:
    """The violations as text, and whether each is a null that may be left out."""
    return {str(one): one.is_null for one in violations}


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """The reference."""
    with MockServer() as server, Target(server.base_url, server.model) as target:
        yield target


@pytest.fixture
def completion(target: Target) -> dict[str, Any]:
    """A chat completion with a tool call."""
    return target.chat(tools=[PING], tool_choice="required", max_tokens=64).success()


def test_the_reference_fits(completion: dict[str, Any]) -> None:
    """There is nothing to say about the reference."""
    assert whole_violations(CHAT, completion) == set()


def call(body: dict[str, Any]) -> dict[str, Any]:
    """The tool call of a completion."""
    found: dict[str, Any] = body["choices"][0]["message"]["tool_calls"][0]
    return found


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda b: b.pop("id"), {"id is missing": False}),
        (lambda b: b.update(extra=1), {}),
        (lambda b: b.update(created="now"), {"created is a string": False}),
        (lambda b: b.update(object="completion"), {"object has an unknown value": False}),
        (lambda b: b.update(model=None), {"model is null": False}),
        (lambda b: b.update(system_fingerprint=None), {"system_fingerprint is null": True}),
        (lambda b: b.update(choices=[5]), {"choices[] is a number": False}),
        (
            lambda b: b["choices"][0]["message"].pop("refusal"),
            {"choices[].message.refusal is missing": False},
        ),
        (
            lambda b: call(b)["function"].update(arguments={}),
            {"choices[].message.tool_calls[].function.arguments is an object": False},
        ),
        (
            lambda b: call(b).pop("type"),
            {"choices[].message.tool_calls[].type is missing": False},
        ),
    ],
)
def test_each_violation_has_its_path(
    completion: dict[str, Any], edit: Callable[[Any], object], expected: dict[str, bool]
) -> None:
    """A null is told apart, where the field may be absent; further fields are allowed."""
    edit(completion)
    assert named(whole_violations(CHAT, completion)) == expected


def test_a_body_that_is_no_object() -> None:
    """The body itself is named."""
    assert named(whole_violations(CHAT, [])) == {"the body is a list": False}


def test_an_event_is_judged_by_its_type(target: Target) -> None:
    """Only the schema of its own type counts; an unknown type is a violation."""
    body = {"model": target.model, "input": "Hello", "stream": True, "max_output_tokens": 16}
    events = target.post("/responses", body).objects()
    broken = {one for event in events for one in event_violations(RESPONSES, event)}
    assert {one.path for one in broken} <= {"response.usage", "response.user"}  # null, as at OpenAI
    delta = next(e for e in events if e["type"] == "response.output_text.delta")
    del delta["logprobs"]
    assert told(event_violations(RESPONSES, delta)) == [
        "logprobs is missing in response.output_text.delta"
    ]
    assert named(event_violations(RESPONSES, {"type": "ping"})) == {
        "type has an unknown value": False
    }


def test_what_many_kinds_of_events_lack_is_told_once(target: Target) -> None:
    """The types of the events are named if there are one or two."""
    body = {"model": target.model, "input": "Hello", "stream": True, "max_output_tokens": 16}
    events = target.post("/responses", body).objects()
    for event in events:
        del event["sequence_number"]
    found = {one for event in events for one in event_violations(RESPONSES, event)}
    assert told(one for one in found if not one.is_null) == ["sequence_number is missing"]


def test_chunks_of_completions_end_by_null(target: Target) -> None:
    """They have the schema of the whole, and no finish reason before the last."""
    body = {"model": target.model, "prompt": "Once", "stream": True, "max_tokens": 4}
    first = target.post("/completions", body).objects()[0]
    assert event_violations(COMPLETIONS, first) == set()
    assert named(whole_violations(COMPLETIONS, first)) == {"choices[].finish_reason is null": False}


def test_errors_have_four_fields() -> None:
    """The code is a text or null."""
    error = {"message": "No.", "type": "invalid_request_error", "code": 400}
    assert named(error_violations({"error": error})) == {
        "error.code is a number": False,
        "error.param is missing": False,
    }


def test_repeated_keys_are_found_in_the_text() -> None:
    """A parser keeps one of them, so they are looked for while it reads."""
    assert named(repeated_keys('{"a": [{"b": 1, "b": 2}], "c": 1}')) == {"b is there twice": False}
    assert repeated_keys("no JSON") == set()
