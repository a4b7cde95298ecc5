"""Prompts and answers in spans: only if asked for, and never a key."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from llmengine.telemetry.otel import SWITCH

PROMPT = "the patient's name is Ada"
ANSWER = "Ada has a cold"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


class City(BaseModel):
    """A model that the answer does not fit."""

    name: str


def messages(span: Any, side: str) -> Any:
    """The messages of one side of a span."""
    return json.loads(span.attributes[f"gen_ai.{side}.messages"])


@pytest.mark.parametrize("value", [None, "false", "no_content", "event_only"])
def test_not_unless_asked_for(
    counted_server: Any, exported: Any, monkeypatch: Any, value: Any
) -> None:
    """A span has nothing of prompt or answer, also not in the message of an error."""
    if value is not None:
        monkeypatch.setenv(SWITCH, value)
    s = counted_server(replies=[ANSWER] * 9)

    s.engine.results(PROMPT)
    list(s.engine.stream(PROMPT))
    s.engine.results(PROMPT, output_model=City, tools=[TOOL])

    assert [span.status.status_code.name for span in exported.spans] == ["UNSET", "UNSET", "ERROR"]
    assert "Ada" not in "".join(span.to_json() for span in exported.spans)


@pytest.mark.parametrize("value", ["true", "TRUE", "SPAN_ONLY", "span_and_event"])
def test_prompt_and_answer(
    counted_server: Any, exported: Any, monkeypatch: Any, value: str
) -> None:
    """With the switch on, both are there in the format of the conventions."""
    monkeypatch.setenv(SWITCH, value)
    s = counted_server(replies=[{"content": ANSWER, "reasoning": "hm"}])
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    prompt = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": PROMPT}, image]},
    ]

    s.engine.results(prompt)

    assert messages(exported.span, "input") == [
        {"role": "system", "parts": [{"type": "text", "content": "Be short."}]},
        {"role": "user", "parts": [{"type": "text", "content": PROMPT}, {"type": "image_url"}]},
    ]
    assert messages(exported.span, "output") == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "hm"},
                {"type": "text", "content": ANSWER},
            ],
            "finish_reason": "stop",
        }
    ]


def test_tools(counted_server: Any, exported: Any, monkeypatch: Any) -> None:
    """Definitions, calls and their results are there."""
    monkeypatch.setenv(SWITCH, "true")
    called = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    prompt = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]
    s = counted_server(replies=[{"content": None, "tool_calls": [called]}])

    (result,) = s.engine.results([prompt], tools=[TOOL])

    part = {"type": "tool_call", "id": "c1", "name": "look", "arguments": "{}"}
    _, assistant, tool = messages(exported.span, "input")
    assert assistant == {"role": "assistant", "parts": [part]}
    answered = {"type": "tool_call_response", "id": "c1", "response": "rain"}
    assert tool == {"role": "tool", "parts": [answered]}
    (new,) = result.unwrap().tool_calls
    assert messages(exported.span, "output")[0]["parts"] == [part | {"id": new.id}]
    assert json.loads(exported.span.attributes["gen_ai.tool.definitions"]) == [TOOL]


def test_an_answer_that_does_not_fit_is_shown(
    counted_server: Any, exported: Any, monkeypatch: Any
) -> None:
    """The span of a failed call has the answer and the whole message."""
    monkeypatch.setenv(SWITCH, "true")
    s = counted_server(replies=[ANSWER] * 9)

    (result,) = s.engine.results(PROMPT, output_model=City)

    assert messages(exported.span, "output")[0]["parts"] == [{"type": "text", "content": ANSWER}]
    assert exported.span.status.description == str(result.error)


def test_never_a_key(counted_server: Any, exported: Any, monkeypatch: Any) -> None:
    """A key that is pasted into a prompt is masked as anywhere else."""
    monkeypatch.setenv(SWITCH, "true")
    s = counted_server(api_key="sk-very-secret-key")

    s.engine.results("why is sk-very-secret-key refused?")

    assert "sk-very-secret-key" not in exported.span.to_json()
    assert "[redacted]" in exported.span.attributes["gen_ai.input.messages"]
