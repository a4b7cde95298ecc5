"""Scripted replies, and the list of received requests."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import InvalidFieldError
from llmengine.mock import Behaviour, Chaos, Fault, Load, MockReply, MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Api


def message_with(**function: object) -> dict[str, Any]:
    """A scripted message with one tool call."""
    return {"tool_calls": [{"function": function}]}


async def slowly(request: object) -> str:
    """A function that a reply cannot be, since the server does not wait for it."""
    return "x"


NO_TOKEN = {"token": "Yes", "logprob": -0.1}
CALL = {"function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}


def test_replies_come_in_order(start: Callable[..., Api]) -> None:
    """Each request uses the next reply; after the last one the reference answers."""
    api = start(script=Script(replies=["one", "two"]))

    assert [api.text(), api.text()] == ["one", "two"]
    assert len(api.text().split()) > 20


def test_script_may_be_endless(start: Callable[..., Api]) -> None:
    """Replies may be any iterable, also an endless one."""
    api = start(script=Script(replies=itertools.cycle(["a", "b"])))

    assert [api.text() for _ in range(5)] == list("ababa")


def test_script_is_replaced_while_running(start: Callable[..., Api]) -> None:
    """`play` replaces the remaining replies."""
    api = start(script=Script(replies=["old", "old"]))
    assert api.text() == "old"
    api.server.play(Script(replies=["new"]))

    assert api.text() == "new"


def test_failed_call_takes_no_reply(start: Callable[..., Api]) -> None:
    """A fault and a refusal do not use a reply, so a retry gets it."""
    api = start(script=Script(replies=["kept"], faults=[Fault(status=503)]))
    statuses = [api.chat().status_code, api.chat([]).status_code]

    assert statuses == [503, 400]
    assert api.text() == "kept"


@pytest.mark.parametrize("stream", [False, True])
def test_scripted_message_is_sent_as_it_is(start: Callable[..., Api], stream: bool) -> None:
    """A message may have text, reasoning and tool calls."""
    scripted = {"content": "Hm.", "reasoning": "Let me think.", "tool_calls": [CALL]}
    api = start(script=Script(replies=[scripted]))
    if stream:
        choices = [c["choices"][0] for c in api.chunks()]
        deltas = [c["delta"] for c in choices]
        text = "".join(d.get("content") or "" for d in deltas)
        reasoning = "".join(d.get("reasoning", "") for d in deltas)
        functions = [f["function"] for d in deltas for f in d.get("tool_calls", [])]
        arguments = "".join(f["arguments"] for f in functions)
        finish = choices[-1]["finish_reason"]
    else:
        choice = api.said()
        text, reasoning = choice["message"]["content"], choice["message"]["reasoning"]
        (call,) = choice["message"]["tool_calls"]
        arguments, finish = call["function"]["arguments"], choice["finish_reason"]

    assert (text, reasoning) == ("Hm.", "Let me think.")
    assert json.loads(arguments) == {"city": "Paris"}
    assert finish == "tool_calls"


def test_scripted_refusal(start: Callable[..., Api]) -> None:
    """A refusal is in its own field, and there is no content."""
    api = start(script=Script(replies=[{"refusal": "No."}] * 3))
    message = api.said()["message"]
    deltas = [c["choices"][0]["delta"] for c in api.chunks()]
    response = api.post("/v1/responses", input="x").json()

    assert (message["content"], message["refusal"]) == (None, "No.")
    assert [d["refusal"] for d in deltas if d.get("refusal")] == ["No."]
    assert response["output"][0]["content"] == [{"type": "refusal", "refusal": "No."}]


def test_limits_hold_for_scripts(start: Callable[..., Api]) -> None:
    """Token limit and stop sequences cut a scripted text like any other."""
    api = start(script=Script(replies=["one two three four"] * 2))
    cut = api.said(max_tokens=2)

    assert (cut["message"]["content"], cut["finish_reason"]) == ("one two", "length")
    assert api.text(stop=" three") == "one two"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/responses", {"input": "x"}),
        ("/api/chat", {"messages": [{"role": "user", "content": "x"}], "stream": False}),
        ("/api/generate", {"prompt": "x", "stream": False}),
    ],
)
def test_every_generating_route_follows_the_script(
    start: Callable[..., Api], path: str, body: dict[str, Any]
) -> None:
    """All routes use the same script."""
    api = start(script=Script(replies=["zebra"]))

    assert '"zebra"' in api.post(path, **body).text


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (Script(iter([5])), "a reply is 5; give a text"),  # type: ignore[list-item]
        (Script(faults=iter([503])), "a fault is 503; give a Fault"),  # type: ignore[list-item]
        (Script(lambda request: 5 for _ in range(9)), "a reply is 5; give a text"),  # type: ignore[misc]
    ],
)
def test_wrong_item_of_an_iterator_is_not_silent(
    start: Callable[..., Api], script: Script, words: str
) -> None:
    """The item is an error when it is used, because an iterator may be endless."""
    api = start(script=script)

    assert words in api.chat().json()["error"]["message"]
    with pytest.raises(InvalidFieldError, match=words):
        api.server.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Fault(code=503), "Fault has no argument 'code'; write status=503"),
        (lambda: Fault(statu=503), "did you mean 'status'?"),
        (lambda: Fault(status="503"), "Fault: status is '503'; it must be a whole number"),
        (lambda: Fault(delay="1"), "Fault: delay is '1'; it must be a number of seconds"),
        (lambda: Fault(status=200), "status is 200; it must be a whole number from 400 to 599"),
        (lambda: Fault(delay=-1), "Fault: delay is -1; it must be a number of seconds"),
        (lambda: Fault(retry_after=1), "retry_after has no effect without a status"),
        (lambda: Fault(split_at=0), "split_at is 0; it must be a whole number above 0"),
        (lambda: Script(replies=[5]), "a reply is 5; give a text"),
        (lambda: Script(faults=[503]), "Script: a fault is 503; give a Fault, or None"),
        (lambda: Script([{"contents": "x"}]), "no field 'contents'; did you mean 'content'?"),
        (lambda: Script([{"content": 5}]), "reply: content is 5; give a text"),
        (lambda: Script([message_with(name="f", arguments=7)]), "arguments of a tool call is 7"),
        (lambda: Script([message_with(arguments="{}")]), "name of a tool call is None"),
        (lambda: MockReply(usage={"prompt": 3}), "no field 'prompt'; did you mean"),
        (lambda: MockReply(usage={"prompt_tokens": "3"}), "prompt_tokens is '3'; give a whole"),
        (lambda: MockReply("No", logprobs=[NO_TOKEN]), "join to 'Yes', which is not the content"),
        (lambda: MockReply("Yes", logprobs=[{"token": "Yes"}]), "give a token such as"),
        (lambda: MockReply(embedding=["x"]), "embedding is ['x']; give a list of numbers"),
        (lambda: MockReply("x", embedding=[1.0]), "an embedding has no other field beside it"),
        (lambda: Script([MockReply(embedding=[1.0])]), "an embedding is chosen by content"),
        (lambda: MockServer().when().reply("x", MockReply(embedding=[1])), "to a when each"),
        (lambda: MockServer(models="a"), "models is 'a'; give a list of names"),
        (lambda: MockServer(slots=1, load=Load()), "give slots in the Load"),
        (lambda: MockServer().simulate(3), "load is a int; give a Load"),
        (lambda: MockServer().when(contains=""), "when: contains is ''; give a text"),
        (lambda: MockServer().when(contain="x"), "did you mean 'contains'?"),
        (lambda: MockServer().when().reply(5), "a reply is 5; give a text"),
        (lambda: MockServer().when().reply(slowly), "reply is the async function slowly; give a"),
        (lambda: MockServer().when().reply("x", times=0), "times is 0; give a whole number"),
        (lambda: Load(slots=0), "Load: slots is 0; it must be a whole number above 0"),
        (lambda: Load(queue=3), "queue has no effect without slots"),
        (lambda: Load(jitter=2), "Load: jitter is 2; it must be a share from 0 to 1"),
        (lambda: Chaos(cut=2), "Chaos: cut is 2; it must be a probability from 0 to 1"),
        (lambda: Chaos(cut=0.7, stall=0.7), "the probabilities add up to 1.4; at most 1"),
        (lambda: Script(reply=["x"]), "did you mean 'replies'?"),
        (lambda: Script(replies="one"), "Script: replies is a str; give a list of replies"),
        (lambda: Script(faults=Fault()), "Script: faults is a Fault; give a list of faults"),
        (lambda: Behaviour(repyl=None), "Behaviour has no argument 'repyl'; did you mean 'reply'?"),
        (lambda: MockServer(prot=1), "MockServer has no argument 'prot'; did you mean 'port'?"),
        (lambda: MockServer(script=["x"]), "script is a list; give a Script"),
    ],
)
def test_wrong_argument_says_what_is_meant(make: Callable[[], Any], words: str) -> None:
    """A wrong argument is an error whose message suggests the right one."""
    with pytest.raises(InvalidFieldError) as caught:
        make()

    assert words in str(caught.value)


def test_calls_are_recorded(start: Callable[..., Api]) -> None:
    """The list has method, path, query, headers, bytes and JSON, also of refused requests."""
    api = start()
    api.http.post("/v1/completions?a=b", json={"prompt": "é"}, headers={"X-Test": "1"})
    api.http.get("/v1/nothing")
    api.http.post("/v1/completions", content=b"{")
    posted, got, broken = api.server.calls

    assert (posted.method, posted.path, posted.query) == ("POST", "/v1/completions", "a=b")
    assert posted.headers["x-test"] == "1"
    assert posted.json == json.loads(posted.body) == {"prompt": "é"}
    assert (got.method, got.path, got.json) == ("GET", "/v1/nothing", None)
    assert (broken.body, broken.json) == (b"{", None)


def test_calls_keep_the_newest_up_to_a_number(
    start: Callable[..., Api], caplog: pytest.LogCaptureFixture
) -> None:
    """The oldest requests are dropped and counted, and one warning says so."""
    api = start(max_calls=3)
    for number in range(5):
        api.http.get(f"/v1/models/{number}")

    assert [call.path[-1] for call in api.server.calls] == ["2", "3", "4"]
    assert api.server.calls.dropped == 2
    (warning,) = [r for r in caplog.records if r.name == "llmengine.mock"]
    assert "more than 3 requests" in warning.message


def test_calls_keep_the_newest_up_to_a_size(start: Callable[..., Api]) -> None:
    """Large bodies are dropped before the number is reached, but never the newest request."""
    api = start(max_calls_bytes=5000)
    for size in (10, 3000, 2500, 9000):
        api.chat("x" * size)
        assert len(api.server.calls[-1].body) > size
    kept = len(api.server.calls), api.server.calls.dropped
    api.chat("short")

    assert kept == (1, 3)
    assert [call.prompt for call in api.server.calls] == ["short"]


def test_calls_know_the_prompt_of_every_api(start: Callable[..., Api]) -> None:
    """The prompt is the last message, and the system prompt is all of it."""
    api = start()
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": [{"text": "b"}]}]
    result = {"type": "tool_result", "content": [{"type": "text", "text": "c"}]}
    for body in (
        {"messages": [{"role": "system", "content": "s"}, *turns]},
        {"system": [{"text": "s"}], "messages": [{"role": "user", "content": [result]}]},
        {"instructions": "s", "input": [{"type": "function_call_output", "output": "d"}]},
        {"system": "s", "prompt": "e"},
        {"input": ["f", "g"]},
        {},
    ):
        api.http.post("/v1/nothing", json=body)

    assert [call.prompt for call in api.server.calls] == ["b", "c", "d", "e", "f\ng", ""]
    assert [call.system for call in api.server.calls] == ["s", "s", "s", "s", "", ""]
