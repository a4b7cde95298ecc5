"""Anthropic's Messages API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Fault, Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Api

PATH = "/v1/messages"
USER = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOL = {
    "name": "get_weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


def _create(api: Api, **body: Any) -> Any:
    response = api.post(PATH, **({"max_tokens": 64, "messages": USER} | body))
    assert response.status_code == 200, response.text
    return response.json()


def _stream(api: Api, **body: Any) -> list[Any]:
    response = api.post(PATH, **({"max_tokens": 64, "messages": USER, "stream": True} | body))
    assert response.headers["content-type"].startswith("text/event-stream")
    events = []
    for block in response.text.strip().split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def test_message_has_every_field(reference: Api) -> None:
    """The fields and the usage are Anthropic's."""
    body = _create(reference)

    assert body["id"].startswith("msg_")
    assert (body["type"], body["role"], body["model"]) == ("message", "assistant", "mock")
    assert [block["type"] for block in body["content"]] == ["text"]
    assert (body["stop_reason"], body["stop_sequence"]) == ("end_turn", None)
    assert body["usage"]["input_tokens"] > 0
    assert body["usage"]["output_tokens"] > 0


@pytest.mark.parametrize(
    ("params", "reason", "sequence"),
    [
        ({"max_tokens": 3}, "max_tokens", None),
        ({"stop_sequences": ["@@", "three"]}, "stop_sequence", "three"),
        ({"tools": [TOOL], "messages": USER}, "tool_use", None),
    ],
)
def test_stop_reason_says_why(
    reference: Api, params: dict[str, Any], reason: str, sequence: str | None
) -> None:
    """Whole and streamed, the reason is the same."""
    messages = [{"role": "user", "content": "Repeat: one two three four"}]
    body = _create(reference, **({"messages": messages} | params))
    last = _stream(reference, **({"messages": messages} | params))[-2]

    assert (body["stop_reason"], body["stop_sequence"]) == (reason, sequence)
    assert last["delta"] == {"stop_reason": reason, "stop_sequence": sequence}


def test_stream_joins_to_the_message(reference: Api) -> None:
    """The blocks begin empty, and their deltas join to the message at temperature 0."""
    whole = _create(reference, temperature=0)
    events = _stream(reference, temperature=0)
    kinds = list(dict.fromkeys(event["type"] for event in events))
    deltas = [e["delta"]["text"] for e in events if e["type"] == "content_block_delta"]

    assert kinds == [
        *("message_start", "ping", "content_block_start", "content_block_delta"),
        *("content_block_stop", "message_delta", "message_stop"),
    ]
    assert events[0]["message"]["content"] == []
    assert "".join(deltas) == whole["content"][0]["text"]
    assert events[-2]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


def test_tool_is_called_and_its_result_is_read(reference: Api) -> None:
    """The input is an object, in a stream its JSON in pieces; the result is in the next answer."""
    (call,) = _create(reference, tools=[TOOL])["content"]
    events = _stream(reference, tools=[TOOL])
    pieces = [e["delta"]["partial_json"] for e in events if e["type"] == "content_block_delta"]
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "rain"}
    history = [
        *USER,
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]

    assert call["input"] == {"city": "Paris"}
    assert json.loads("".join(pieces)) == {"city": "Paris"}
    answer = _create(reference, tools=[TOOL], messages=history)
    assert answer["content"][0]["text"] == "The tool answered: rain"


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ({"type": "none"}, []),
        ({"type": "tool", "name": "get_time"}, ["get_time"]),
        ({"type": "any"}, ["get_weather"]),
    ],
)
def test_tool_choice_is_obeyed(reference: Api, choice: dict[str, str], names: list[str]) -> None:
    """The calls are those that the choice allows."""
    tools = [TOOL, {"name": "get_time", "input_schema": {"type": "object"}}]
    body = _create(reference, tools=tools, tool_choice=choice)

    assert [b["name"] for b in body["content"] if b["type"] == "tool_use"] == names


def test_thinking_comes_first_and_is_signed(reference: Api) -> None:
    """The block has a signature, which a stream sends last."""
    thinking = {"type": "enabled", "budget_tokens": 1024}
    body = _create(reference, thinking=thinking, max_tokens=2048)
    events = _stream(reference, thinking=thinking, max_tokens=2048)
    first = [e for e in events if e.get("index") == 0]

    assert [block["type"] for block in body["content"]] == ["thinking", "text"]
    assert body["content"][0]["signature"]
    assert first[-2]["delta"]["type"] == "signature_delta"


def test_newest_version_has_no_sampling(reference: Api) -> None:
    """The API of that version refuses the parameters, even with their default values."""
    body = {"model": "mock", "max_tokens": 1, "messages": USER}
    newest = {"anthropic-version": "2026-10-21"}

    assert reference.http.post(PATH, json=body, headers=newest).status_code == 200
    refused = reference.http.post(PATH, json=body | {"temperature": 1}, headers=newest)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == "temperature: Extra inputs are not permitted"


def test_count_is_that_of_the_usage(reference: Api) -> None:
    """The route counts system prompt, messages and tools."""
    fields: dict[str, Any] = {"messages": USER, "system": "Be brief.", "tools": [TOOL]}
    counted = reference.post(f"{PATH}/count_tokens", **fields).json()

    assert counted == {"input_tokens": _create(reference, **fields)["usage"]["input_tokens"]}


def test_refusal_has_anthropics_envelope(reference: Api) -> None:
    """Type and status belong together."""
    wrong = reference.post(PATH, messages=USER)
    unknown = reference.post(PATH, model="nope", max_tokens=1, messages=USER)

    assert wrong.status_code == 400
    assert wrong.json()["type"] == "error"
    assert wrong.json()["error"]["type"] == "invalid_request_error"
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")


@pytest.mark.parametrize(
    ("status", "kind"), [(429, "rate_limit_error"), (500, "api_error"), (529, "overloaded_error")]
)
def test_fault_has_anthropics_type(start: Callable[..., Api], status: int, kind: str) -> None:
    """A simulated failure has the type of its status."""
    api = start(script=Script(faults=[Fault(status=status, retry_after=3)]))
    response = api.post(PATH, max_tokens=1, messages=USER)

    assert response.status_code == status
    assert response.json()["error"]["type"] == kind
    assert response.headers["retry-after"] == "3"


@pytest.mark.parametrize(
    "header", [{"x-api-key": "secret-key"}, {"authorization": "Bearer secret-key"}]
)
def test_key_is_read_from_either_header(start: Callable[..., Api], header: dict[str, str]) -> None:
    """Both headers of Anthropic's SDKs are read, and a wrong key is a 401 in either."""
    api = start(api_key="secret-key")
    body = {"model": "mock", "max_tokens": 1, "messages": USER}
    wrong = {name: value.replace("secret", "wrong") for name, value in header.items()}

    assert api.http.post(PATH, json=body, headers=header).status_code == 200
    refused = api.http.post(PATH, json=body, headers=wrong)
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
