"""Replies by the content of requests."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Fault, MockReply, MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from conftest import Api

WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
CALL = {"name": "get_weather", "arguments": {"city": "Paris"}}


@pytest.mark.parametrize(
    "conditions",
    [
        {"contains": "weather"},
        {"contains": re.compile("w[a-z]+r")},
        {"contains": ["the weather", re.compile("today.$")]},
        {"system": "brief"},
        {"json": {"temperature": 0, "tools": [{"function": {"name": "get_weather"}}]}},
        {"model": "large"},
        {"tool": "get_weather"},
        {"path": "/v1/chat/completions"},
        {"where": lambda request: "tools" in request.json and request.method == "POST"},
    ],
)
def test_each_condition_chooses_requests(
    start: Callable[..., Api], conditions: dict[str, Any]
) -> None:
    """A request that fits gets the reply, and one that does not fit gets the next stub's."""
    api = start(models=["large"])
    api.server.when(**conditions).reply("chosen")
    api.server.when().reply("other")
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "How is the weather today?"}]},
    ]
    other = api.http.post("/v1/messages", json=body_of("/v1/messages", "Hi"))

    assert api.text(turns, model="large", temperature=0, tools=[WEATHER]) == "chosen"
    assert said(other) == "other"


def _first_choice(body: Any) -> Any:
    return body["choices"][0] if body["choices"] else {}


def _block(event: Any) -> str:
    return str(event["delta"]["text"]) if event["type"] == "content_block_delta" else ""


def _output(event: Any) -> str:
    return str(event["delta"]) if event["type"] == "response.output_text.delta" else ""


# By route: the text of a whole answer, and of one event of a stream.
TEXTS: dict[str, tuple[Callable[[Any], str], Callable[[Any], str]]] = {
    "/v1/chat/completions": (
        lambda body: _first_choice(body)["message"]["content"],
        lambda event: _first_choice(event)["delta"].get("content") or "",
    ),
    "/v1/completions": (
        lambda body: _first_choice(body)["text"],
        lambda event: _first_choice(event)["text"],
    ),
    "/v1/responses": (lambda body: body["output"][-1]["content"][0]["text"], _output),
    "/v1/messages": (lambda body: body["content"][-1]["text"], _block),
    "/api/chat": (lambda body: body["message"]["content"], lambda e: e["message"]["content"]),
    "/api/generate": (lambda body: body["response"], lambda event: event["response"]),
}


def body_of(path: str, prompt: str, **fields: Any) -> dict[str, Any]:
    """A request to a route; where there are messages, an old one is about the weather."""
    turns = [
        {"role": "user", "content": "How is the weather?"},
        {"role": "assistant", "content": "I do not know."},
        {"role": "user", "content": prompt},
    ]
    by_path: dict[str, dict[str, Any]] = {
        "/v1/responses": {"input": turns},
        "/v1/completions": {"prompt": prompt},
        "/api/generate": {"prompt": prompt},
        "/v1/messages": {"messages": turns, "max_tokens": 99},
    }
    return {"model": "mock", **by_path.get(path, {"messages": turns}), **fields}


def said(response: httpx.Response) -> str:
    """The text of an answer of any route, whole or streamed."""
    assert response.status_code == 200, response.text
    whole, part = TEXTS[response.request.url.path]
    if response.headers["content-type"] == "application/json":
        return whole(response.json())
    lines = [line.removeprefix("data: ") for line in response.text.splitlines()]
    return "".join(part(json.loads(line)) for line in lines if line.startswith("{"))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", TEXTS)
def test_reply_follows_the_last_message_on_every_route(
    start: Callable[..., Api], path: str, stream: bool
) -> None:
    """Old messages do not count, and a streamed reply joins to the same text."""
    api = start()
    api.server.when(contains="weather").reply("Sunny and warm.")
    api.server.when(contains="name").reply("I am a mock.")
    response = api.http.post(path, json=body_of(path, "What is your name?", stream=stream))

    assert said(response) == "I am a mock."


def test_agent_loop_of_a_tool(start: Callable[..., Api]) -> None:
    """The call, its result and the answer are three turns of one conversation."""
    api = start()
    api.server.when(contains="weather", tool="get_weather").reply(MockReply(tool_calls=[CALL]))
    api.server.when(contains="21 degrees").reply("It is warm in Paris.")
    turns: list[Any] = [{"role": "user", "content": "How is the weather in Paris?"}]
    first = api.said(turns, tools=[WEATHER])
    call = first["message"]["tool_calls"][0]
    result = {"role": "tool", "tool_call_id": call["id"], "content": "21 degrees"}

    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    assert api.text([*turns, first["message"], result], tools=[WEATHER]) == "It is warm in Paris."
    api.server.assert_as_scripted()


def test_requests_at_once_get_their_own_replies(start: Callable[..., Api]) -> None:
    """Replies do not depend on the order in which concurrent requests arrive."""
    api = start()
    for number in range(20):
        api.server.when(contains=f"number {number}.").reply(f"reply {number}")
    with ThreadPoolExecutor(10) as threads:
        found = list(threads.map(lambda n: api.text(f"This is number {n}."), range(20)))

    assert found == [f"reply {number}" for number in range(20)]
    api.server.assert_as_scripted()


def test_prompts_of_one_request_get_their_own_replies(start: Callable[..., Api]) -> None:
    """Each prompt of a text completion, and each conversation of vLLM's batch, is matched."""
    api = start()
    api.server.when(contains="red").reply("RED")
    api.server.when(contains="blue").reply("BLUE")
    completion = api.post("/v1/completions", prompt=["blue", "red"]).json()
    turns = [[{"role": "user", "content": color}] for color in ("red", "blue")]
    batch = api.post("/v1/chat/completions/batch", messages=turns).json()

    assert [choice["text"] for choice in completion["choices"]] == ["BLUE", "RED"]
    assert [choice["message"]["content"] for choice in batch["choices"]] == ["RED", "BLUE"]


def test_sequences_functions_and_faults(start: Callable[..., Api]) -> None:
    """Several replies come once each; a function gets the request; a fault disturbs the reply."""
    api = start()
    stub = api.server.when(contains="order").reply(
        Fault(status=429, retry_after=0),
        lambda request: f"{request.prompt} for {request.json['user']}",
        {"content": "third", "fault": Fault(malformed_json=True)},
        None,
    )
    busy = api.chat("My order?", user="ada")

    assert (busy.status_code, busy.headers["retry-after"]) == (429, "0")
    assert api.text("My order?", user="ada") == "My order? for ada"
    with pytest.raises(ValueError, match="line 1"):
        api.chat("My order?").json()
    assert len(api.text("My order?").split()) > 20
    assert stub.call_count == 4


def test_used_up_replies_leave_the_request_to_the_next_stub(start: Callable[..., Api]) -> None:
    """`times` repeats the replies so often; then the next stub answers, and then the script."""
    api = start(script=Script(["script"]))
    api.server.when(contains="x").reply("a", "b", times=3)
    api.server.when(contains="x").reply("c", times=1)

    assert [api.text("x") for _ in range(5)] == ["a", "b", "a", "c", "script"]
    refused = api.chat("x")
    assert refused.status_code == 400
    assert "every reply of when(contains='x') was used" in refused.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/messages", "/api/chat"])
def test_request_without_a_reply_is_refused(start: Callable[..., Api], path: str) -> None:
    """The error has the form of the API and says what is missing; the check says it again."""
    api = start()
    api.server.when(contains="weather").reply("Sunny.", optional=True)
    api.server.when(contains="time").reply("Noon.")
    response = api.http.post(path, json=body_of(path, "Something else"))

    assert response.status_code == 400
    assert "no when(...) matches it" in response.text
    with pytest.raises(AssertionError) as caught:
        api.server.assert_as_scripted()
    assert str(caught.value).splitlines() == [
        "the mock server was not used as scripted:",
        f"- POST {path} 'Something else': no when(...) matches it",
        "- when(contains='time'): was never asked for",
    ]


def unused(server: MockServer) -> None:
    """Two of three replies are left."""
    server.play(Script(["one", "two", "three"]))


def too_few(server: MockServer) -> None:
    """There is no reply to the second request."""
    server.play(Script(["one"]))


def half(server: MockServer) -> None:
    """One reply of two is left, and a stub has none."""
    server.when(contains="Tell").reply("one", "two", "three")
    server.when(contains="Hm")


def replaced(server: MockServer) -> None:
    """What a script left counts, also if another one has replaced it."""
    unused(server)
    server.play(Script())


@pytest.mark.parametrize(
    ("prepare", "problems"),
    [
        (unused, ["Script: 1 of 3 replies were not asked for, the next is 'three'"]),
        (too_few, ["POST /v1/chat/completions 'Tell me.': came after the last reply of"]),
        (half, ["when(contains='Tell'): answered 2 of 3 requests",
                "when(contains='Hm'): has no reply; call .reply(...) on it"]),
        (lambda server: server.play(Script(faults=[None] * 3 + [Fault(status=503)])), []),
        (replaced, ["Script: 3 of 3 replies were not asked for, the next is 'one'"]),
        (lambda server: server.play(Script(["one", "two"])), []),
        (lambda server: server.play(Script(["one"], optional=True)), []),
        (lambda server: server.play(Script(["a", "b", "c"], optional=True)), []),
        (lambda server: server.play(Script(f"{n}" for n in range(9))), []),
        (lambda server: server.when(contains="Hm").reply("x", optional=True), []),
        (lambda server: server.when().reply(), []),
    ],
)  # fmt: skip
def test_check_says_what_was_not_as_scripted(
    start: Callable[..., Api], prepare: Callable[[MockServer], Any], problems: list[str]
) -> None:
    """The check lists what is left and what came too often, unless that is optional."""
    api = start()
    prepare(api.server)
    assert [api.chat().status_code for _ in range(2)] == [200, 200]
    found = []
    try:
        api.server.assert_as_scripted()
    except AssertionError as error:
        found = [line.removeprefix("- ") for line in str(error).splitlines()[1:]]

    assert len(found) == len(problems)
    assert all(line.startswith(start_of) for line, start_of in zip(found, problems, strict=True))
