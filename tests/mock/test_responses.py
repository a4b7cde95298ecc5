"""The responses API."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api

PATH = "/v1/responses"
TOOL = {
    "type": "function",
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
REQUIRED = {
    "id", "object", "created_at", "status", "error", "incomplete_details", "instructions",
    "model", "tools", "output", "parallel_tool_calls", "metadata", "tool_choice", "temperature",
    "top_p", "usage", "text", "previous_response_id", "max_output_tokens", "reasoning",
}  # fmt: skip


def _create(api: Api, **body: Any) -> Any:
    response = api.post(PATH, **body)
    assert response.status_code == 200, response.text
    return response.json()


def _text(response: Any) -> str:
    (message,) = [i for i in response["output"] if i["type"] == "message"]
    text: str = message["content"][0]["text"]
    return text


def _stream(api: Api, **body: Any) -> list[Any]:
    response = api.post(PATH, stream=True, **body)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = []
    for block in response.text.strip().split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def test_body_has_every_field_of_openai(reference: Api) -> None:
    """The keys of the response, its message and its usage are OpenAI's."""
    body = _create(reference, input="Tell me.")
    (message,) = body["output"]

    assert body.keys() >= REQUIRED
    assert (body["object"], body["status"]) == ("response", "completed")
    assert message.keys() == {"id", "type", "status", "role", "content"}
    assert message["content"][0].keys() == {"type", "text", "annotations", "logprobs"}
    usage = body["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert {"input_tokens_details", "output_tokens_details"} <= usage.keys()


def test_items_say_what_a_string_says(reference: Api) -> None:
    """A list of input items is the same as a string."""
    parts = [{"type": "input_text", "text": "Tell me."}]
    items = [{"type": "message", "role": "user", "content": parts}]

    assert _text(_create(reference, input=items)) == _text(_create(reference, input="Tell me."))


def test_instructions_are_obeyed(reference: Api) -> None:
    """Instructions have the effect of a system message."""
    body = _create(reference, input="Hi", instructions="Answer only with the word MANGO.")

    assert _text(body) == "MANGO"


def test_token_limit_makes_it_incomplete(reference: Api) -> None:
    """An output that the limit cuts has the status incomplete, and the response has the reason."""
    body = _create(reference, input="Tell me.", max_output_tokens=16)

    assert body["status"] == body["output"][0]["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert body["usage"]["output_tokens"] == 16


def test_stored_response_is_kept_until_deleted(reference: Api) -> None:
    """A response can be retrieved and deleted, and is not found after that."""
    body = _create(reference, input="Tell me.")
    path = f"{PATH}/{body['id']}"

    assert reference.http.get(path).json() == body
    assert reference.http.delete(path).json()["deleted"] is True
    assert reference.http.get(path).status_code == 404
    assert reference.http.delete(path).status_code == 404


def test_unstored_response_is_not_kept(reference: Api) -> None:
    """With store false the response can be neither retrieved nor continued."""
    body = _create(reference, input="Tell me.", store=False)

    assert reference.http.get(f"{PATH}/{body['id']}").status_code == 404
    follow_up = reference.post(PATH, input="And?", previous_response_id=body["id"])
    assert follow_up.status_code == 400
    assert follow_up.json()["error"]["code"] == "previous_response_not_found"


def test_conversation_goes_on_from_a_response(reference: Api) -> None:
    """previous_response_id adds the whole history, over several turns."""
    one = _create(reference, input="My name is Ludmila.")
    two = _create(reference, input="Tell me.", previous_response_id=one["id"])
    three = _create(reference, input="What is my name?", previous_response_id=two["id"])

    assert "Ludmila" in _text(three)
    assert three["previous_response_id"] == two["id"]


def test_function_is_called_and_its_result_used(reference: Api) -> None:
    """A call has an item id and a call id, and the answer to its output is text."""
    body = _create(reference, input="What is the weather in Paris?", tools=[TOOL])
    (call,) = body["output"]

    assert call.keys() == {"id", "type", "status", "call_id", "name", "arguments"}
    assert json.loads(call["arguments"]) == {"city": "Paris"}
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
    after = _create(reference, input=[result], previous_response_id=body["id"], tools=[TOOL])
    assert "sunny" in _text(after)


@pytest.mark.parametrize(
    ("choice", "kinds"),
    [
        ("none", ["message"]),
        ("required", ["function_call"]),
        ({"type": "function", "name": "get_weather"}, ["function_call"]),
    ],
)
def test_tool_choice_is_kept(reference: Api, choice: Any, kinds: list[str]) -> None:
    """none, required and a named function decide the kind of the output."""
    body = _create(reference, input="Hello.", tools=[TOOL], tool_choice=choice)

    assert [item["type"] for item in body["output"]] == kinds
    assert body["tool_choice"] == choice


def test_text_format_is_kept(reference: Api) -> None:
    """The text fits the schema of text.format, which the response repeats."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"format": {"type": "json_schema", "name": "x", "schema": schema, "strict": True}}
    body = _create(reference, input="Tell me.", text=wanted)

    assert isinstance(json.loads(_text(body))["n"], int)
    assert body["text"]["format"] == wanted["format"]


def test_logprobs_come_on_request(reference: Api) -> None:
    """The logprobs of the output text are sent if include names them."""
    asked = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    body = _create(reference, input="Tell me.", max_output_tokens=16, **asked)
    entries = body["output"][0]["content"][0]["logprobs"]

    assert "".join(e["token"] for e in entries) == _text(body)
    assert all(len(e["top_logprobs"]) == 2 for e in entries)


def test_stream_has_every_event_in_order(reference: Api) -> None:
    """Events are numbered from 0, go from created to completed, and name each delta's place."""
    events = _stream(reference, input="Tell me.")

    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    assert [kind for kind, _ in groupby(e["type"] for e in events)] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_stream_tells_one_story(reference: Api) -> None:
    """The deltas join to the done texts and to the final response, which is stored."""
    events = _stream(reference, input="Tell me.")
    deltas = [e for e in events if e["type"] == "response.output_text.delta"]
    by_type = {e["type"]: e for e in events}
    final = by_type["response.completed"]["response"]
    text = "".join(d["delta"] for d in deltas)

    assert text == by_type["response.output_text.done"]["text"] == _text(final)
    assert all({"item_id", "output_index", "content_index", "logprobs"} <= d.keys() for d in deltas)
    assert {d["item_id"] for d in deltas} == {final["output"][0]["id"]}
    assert by_type["response.created"]["response"]["status"] == "in_progress"
    assert by_type["response.created"]["response"]["output"] == []
    assert by_type["response.output_item.added"]["item"]["content"] == []
    assert by_type["response.output_item.done"]["item"] == final["output"][0]
    assert reference.http.get(f"{PATH}/{final['id']}").json() == final


def test_stream_ends_as_the_response_does(reference: Api) -> None:
    """A cut response ends its stream with response.incomplete."""
    events = _stream(reference, input="Tell me.", max_output_tokens=16)

    assert events[-1]["type"] == "response.incomplete"
    assert [e["type"] for e in events].count("response.output_text.delta") == 16


def test_stream_of_a_function_call(reference: Api) -> None:
    """The deltas of the arguments join to those of the call."""
    events = _stream(reference, input="What is the weather in Paris?", tools=[TOOL])
    kind = "response.function_call_arguments"
    joined = "".join(e["delta"] for e in events if e["type"] == f"{kind}.delta")
    (done,) = [e for e in events if e["type"] == f"{kind}.done"]

    assert joined == done["arguments"] == events[-1]["response"]["output"][0]["arguments"]
    assert json.loads(joined) == {"city": "Paris"}


def test_reasoning_is_an_item_of_its_own(reference: Api) -> None:
    """Reasoning comes before the message, and its tokens are counted."""
    body = _create(reference, input="Tell me.", reasoning={"effort": "low"})
    events = _stream(reference, input="Tell me.", reasoning={"effort": "low"})

    assert [i["type"] for i in body["output"]] == ["reasoning", "message"]
    assert body["usage"]["output_tokens_details"]["reasoning_tokens"] > 0
    assert "response.reasoning_text.delta" in {e["type"] for e in events}
