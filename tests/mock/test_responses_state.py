"""The state of the responses API: input items, background, chains, conversations, truncation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest
from jsonschema import Draft202012Validator

from llmengine.mock import Script, specification
from llmengine.mock.response_store import MOST_STORED, BoundedStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Api

PATH = "/v1/responses"


def _create(api: Api, **body: Any) -> Any:
    response = api.post(PATH, **body)
    assert response.status_code == 200, response.text
    return response.json()


def _get(api: Api, path: str) -> Any:
    response = api.http.get(f"{PATH}/{path}")
    assert response.status_code == 200, response.text
    return response.json()


def _text(response: Any) -> str:
    text: str = response["output"][-1]["content"][0]["text"]
    return text


def _kinds(text: str) -> list[str]:
    return [line[7:] for line in text.splitlines() if line.startswith("event: ")]


def test_input_items_are_listed_in_pages(reference: Api) -> None:
    """The items come last first, or in order, with ids, and `after` continues a page."""
    given = [{"role": "user", "content": word} for word in ("one", "two", "three")]
    name = _create(reference, input=given)["id"]
    whole = _get(reference, f"{name}/input_items?order=asc")
    page = _get(reference, f"{name}/input_items?limit=2")
    rest = _get(reference, f"{name}/input_items?limit=2&after={page['last_id']}")

    assert [i["content"][0]["text"] for i in whole["data"]] == ["one", "two", "three"]
    assert [i["id"] for i in page["data"] + rest["data"]] == [
        i["id"] for i in reversed(whole["data"])
    ]
    assert (page["has_more"], rest["has_more"]) == (True, False)
    assert len(_get(reference, f"{name}/input_items?limit={'9' * 5000}")["data"]) == 3


def test_response_in_background_ends_after_polls(reference: Api) -> None:
    """It is queued, then in progress without an output, then completed."""
    body = _create(reference, input="Tell me.", background=True)
    polled = [_get(reference, body["id"]) for _ in range(3)]

    assert (body["status"], body["output"]) == ("queued", [])
    assert "usage" not in body
    assert [p["status"] for p in polled] == ["in_progress", "completed", "completed"]
    assert _text(polled[1])
    assert polled[1] == polled[2]


def test_response_in_background_can_be_cancelled(reference: Api) -> None:
    """A cancelled response stays cancelled; one that has ended stays as it is."""
    one, two = (_create(reference, input="Hi", background=True)["id"] for _ in range(2))
    for _ in range(2):
        assert reference.http.post(f"{PATH}/{one}/cancel").json()["status"] == "cancelled"
    assert _get(reference, one)["status"] == "cancelled"
    ended = [_get(reference, two) for _ in range(2)][-1]
    assert reference.http.post(f"{PATH}/{two}/cancel").json() == ended


def test_other_responses_cannot_be_cancelled(reference: Api) -> None:
    """A response that is not in background is a 400, an unknown one a 404."""
    name = _create(reference, input="Hi")["id"]

    assert reference.http.post(f"{PATH}/{name}/cancel").status_code == 400
    assert reference.http.post(f"{PATH}/resp_gone/cancel").status_code == 404


def test_stream_in_background_can_be_read_again(reference: Api) -> None:
    """It begins as queued; its events can be read from any number on."""
    text = reference.post(PATH, input="Hi", background=True, stream=True).text
    name = text.partition('"id":"')[2].partition('"')[0]
    again = reference.http.get(f"{PATH}/{name}?stream=true").text
    later = reference.http.get(f"{PATH}/{name}?stream=true&starting_after=2").text

    assert _kinds(text)[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert again == text
    assert _kinds(later) == _kinds(text)[3:]
    assert reference.http.get(f"{PATH}/{_create(reference, input='Hi')['id']}?stream=true").is_error


def test_chain_goes_on_from_a_stream(reference: Api) -> None:
    """A streamed response is a previous response too, but its instructions are not kept."""
    said = "My name is Ludmila."
    text = reference.post(
        PATH, input=said, stream=True, instructions="Reply with the word No."
    ).text
    name = text.partition('"id":"')[2].partition('"')[0]

    body = _create(reference, input="What is my name?", previous_response_id=name)
    assert "Ludmila" in _text(body)


@pytest.mark.parametrize("stream", [False, True])
def test_conversation_is_continued(reference: Api, stream: bool) -> None:
    """A conversation holds its first items, then the input and the output of each response."""
    first = [{"role": "user", "content": "My name is Ludmila."}]
    name = reference.http.post("/v1/conversations", json={"items": first}).json()["id"]
    reference.post(PATH, input="My dog is Rex.", conversation=name, stream=stream)
    alone, after = (
        reference.post(f"{PATH}/input_tokens", input="Hi", **more).json()["input_tokens"]
        for more in ({}, {"conversation": name})
    )
    body = _create(reference, input="What is my name?", conversation={"id": name})

    assert "Ludmila" in _text(body)
    assert body["conversation"] == {"id": name}
    assert after > alone
    assert reference.http.get(f"/v1/conversations/{name}").json()["object"] == "conversation"


def test_input_tokens_are_those_of_the_answer(reference: Api) -> None:
    """The count of a request is the one that its answer has."""
    body = {"input": "Tell me.", "instructions": "Be brief."}
    counted = reference.post(f"{PATH}/input_tokens", **body).json()

    assert counted["object"] == "response.input_tokens"
    assert counted["input_tokens"] == _create(reference, **body)["usage"]["input_tokens"]


@pytest.mark.parametrize("stream", [False, True])
def test_reference_stands_for_a_stored_item(reference: Api, stream: bool) -> None:
    """A reference to an output or input item is read as the item, and an unknown one is a 404."""
    first = _create(reference, input="My name is Ada.")
    (listed,) = _get(reference, f"{first['id']}/input_items")["data"]
    ask = {"role": "user", "content": "What is my name?"}
    for item in (listed, first["output"][0]):
        reply = {
            name: reference.post(f"{PATH}/input_tokens", input=[given, ask]).json()["input_tokens"]
            for name, given in (
                ("item", item),
                ("reference", {"type": "item_reference", "id": item["id"]}),
            )
        }
        assert reply["reference"] == reply["item"]
    known, unknown = ({"type": "item_reference", "id": name} for name in (listed["id"], "msg_x"))
    assert "Ada" in reference.post(PATH, input=[known, ask], stream=stream).text
    assert reference.post(PATH, input=[unknown, ask], stream=stream).status_code == 404


def test_service_tier_is_reported_if_the_request_has_one(reference: Api) -> None:
    """The tier auto is the default one, and without a tier none is reported."""
    tiers = [None, "auto", "default", "flex"]
    given = [_create(reference, input="Hi", service_tier=tier)["service_tier"] for tier in tiers]
    assert given == [None, "default", "default", "flex"]


def test_truncation_leaves_out_the_first_items(reference: Api) -> None:
    """With auto an input that is too long loses its beginning; otherwise it is refused."""
    given = [{"role": "user", "content": "word " * 500} for _ in range(20)]
    given.append({"role": "user", "content": "Answer with the word MANGO."})
    refused = reference.post(PATH, input=given)
    body = _create(reference, input=given, truncation="auto")

    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert _text(body) == "MANGO"
    assert 4000 < body["usage"]["input_tokens"] < 8192


def test_one_item_is_not_truncated(reference: Api) -> None:
    """A single item that does not fit is refused with auto too."""
    assert reference.post(PATH, input="word " * 9000, truncation="auto").status_code == 400


def test_history_counts_for_the_context(reference: Api) -> None:
    """A chain that has grown too long is refused."""
    name = _create(reference, input="word " * 7000)["id"]

    refused = reference.post(PATH, input="word " * 2000, previous_response_id=name)
    assert refused.json()["error"]["code"] == "context_length_exceeded"


def test_allowed_tools_limit_the_choice(reference: Api) -> None:
    """Only an allowed tool is called, and `required` makes a call."""
    schema = {"type": "object", "properties": {}}
    tools = [{"type": "function", "name": n, "parameters": schema} for n in ("get_a", "get_b")]
    allowed = {"type": "allowed_tools", "mode": "required", "tools": tools[1:]}
    body = _create(reference, input="Hello.", tools=tools, tool_choice=allowed)

    assert [item["name"] for item in body["output"]] == ["get_b"]
    assert body["tool_choice"] == allowed


def test_reasoning_has_a_summary_and_ciphertext_on_request(reference: Api) -> None:
    """Both come only if they are asked for; the stream has the events of the summary."""
    asked = {
        "input": "Tell me.",
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
    }
    item = _create(reference, **asked)["output"][0]
    plain = _create(reference, input="Tell me.", reasoning={"effort": "low"})["output"][0]
    kinds = _kinds(reference.post(PATH, stream=True, **asked).text)

    assert item["content"][0]["text"].startswith(item["summary"][0]["text"])
    assert item["encrypted_content"].isascii()
    assert plain["summary"] == []
    assert "encrypted_content" not in plain
    assert "response.reasoning_summary_text.delta" in kinds


def test_obfuscation_hides_lengths(reference: Api) -> None:
    """Each delta has random characters on request, and the events are otherwise the same."""
    asked = {"input": "Tell me.", "stream": True}
    plain = reference.post(PATH, **asked).text
    hidden = reference.post(PATH, stream_options={"include_obfuscation": True}, **asked).text

    assert "obfuscation" not in plain
    assert hidden.count('"obfuscation":"') == plain.count('.delta","') > 1


def test_memory_is_bounded() -> None:
    """A store drops its oldest value when it is full."""
    store: BoundedStore[int] = BoundedStore()
    for number in range(MOST_STORED + 2):
        store[str(number)] = number

    assert len(store) == MOST_STORED
    assert "1" not in store
    assert "2" in store


_TOOL = {"type": "function", "name": "get_x", "parameters": {"type": "object"}, "strict": False}
FORMS: dict[str, dict[str, Any]] = {
    "text": {},
    "cut": {"max_output_tokens": 16},
    "logprobs": {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
    "call": {"tools": [_TOOL], "tool_choice": "required"},
    "reasoning": {
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
    },
    "background": {"background": True},
    "settings": {"metadata": {"a": "b"}, "truncation": "auto", "user": "u", "top_p": 0.5},
}


@pytest.mark.parametrize("form", FORMS)
def test_responses_and_events_fit_the_specification(reference: Api, form: str) -> None:
    """Every response and every event is valid, apart from nulls where a key may be absent."""
    body = {"input": "Tell me.", **FORMS[form]}
    whole = _create(reference, **body)
    lines = reference.post(PATH, stream=True, **body).text.splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]

    _validate("Response", whole)
    for event in events:
        _validate(_EVENTS[event["type"]], event)


def test_refusals_and_items_fit_the_specification(start: Callable[..., Api]) -> None:
    """The same holds for the model's refusal, the input items and a count of tokens."""
    api = start()
    api.server.play(Script(replies=[{"refusal": "No."}]))
    body = _create(api, input="Tell me.")

    _validate("Response", body)
    _validate("ResponseItemList", _get(api, f"{body['id']}/input_items"))
    _validate("TokenCountsResource", api.post(f"{PATH}/input_tokens", input="Hi").json())


_UNION = specification.resolved(specification.event_schema("POST /responses"))
_EVENTS = {
    specification.resolved(form)["properties"]["type"]["enum"][0]: form["$ref"].split("/")[-1]
    for form in cast("list[Any]", _UNION["anyOf"])
}


def _validate(name: str, body: Any) -> None:
    Draft202012Validator(dict(specification.json_schema(name))).validate(_without_user(body))


def _without_user(body: Any) -> Any:
    """The body; OpenAI sends null as the user, which its specification does not allow."""
    if isinstance(body.get("response"), dict):
        return {**body, "response": _without_user(body["response"])}
    return {k: v for k, v in body.items() if (k, v) != ("user", None)}
