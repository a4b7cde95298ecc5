"""The hooks by which a mutant differs from the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llmengine.mock import Behaviour

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Api
    from llmengine.mock import RawReply, ReceivedRequest


def test_request_is_changed_before_it_is_validated(start: Callable[..., Api]) -> None:
    """A server that ignores n does not refuse a wrong n, and sends one choice."""

    def ignore_n(body: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
        body.pop("n", None)
        return body

    api = start(behaviour=Behaviour(request=ignore_n))

    assert [len(api.chat(n=n).json()["choices"]) for n in (3, 0)] == [1, 1]
    assert api.server.calls[0].json["n"] == 3


def test_reply_is_changed(start: Callable[..., Api]) -> None:
    """The hook changes the body of an answer that is not streamed, but no error and no stream."""

    def renamed(body: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
        return {"path": call.path, "had": sorted(body)[:1]}

    api = start(behaviour=Behaviour(reply=renamed))

    assert api.http.get("/v1/models").json() == {"path": "/v1/models", "had": ["data"]}
    assert api.chat([]).json().keys() == {"error"}
    assert len(api.chunks()) > 10


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/responses", {"input": "x"}),
        ("/api/generate", {"prompt": "x"}),
    ],
)
def test_events_are_changed(start: Callable[..., Api], path: str, body: dict[str, Any]) -> None:
    """On every route a stream contains the events that the hook returns."""

    def only_last(events: list[dict[str, Any]], call: ReceivedRequest) -> list[dict[str, Any]]:
        return events[-1:]

    text = start(behaviour=Behaviour(events=only_last)).post(path, stream=True, **body).text

    assert sum("{" in line for line in text.splitlines()) == 1


def test_error_is_changed(start: Callable[..., Api]) -> None:
    """The hook changes the body of a refusal, also for a path that does not exist."""

    def flat(body: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
        message: dict[str, Any] = body["error"]
        return message

    api = start(behaviour=Behaviour(error=flat))

    assert "message" in api.chat([]).json()
    assert "message" in api.http.get("/v1/nothing").json()


def test_wire_is_changed(start: Callable[..., Api]) -> None:
    """The hook gets one chunk per event, [DONE] last, and changes status, headers and chunks."""
    seen: list[int] = []

    def changed(reply: RawReply, call: ReceivedRequest) -> RawReply:
        seen.append(len(reply.chunks))
        reply.status = 203
        reply.headers["x-mine"] = "yes"
        reply.chunks.append(b": the end\n\n")
        return reply

    api = start(behaviour=Behaviour(wire=changed))
    response = api.chat(stream=True, max_tokens=2)

    assert response.status_code == 203
    assert response.headers["x-mine"] == "yes"
    assert response.text.endswith("data: [DONE]\n\n: the end\n\n")
    # The role, two tokens, the end and [DONE].
    assert seen == [5]


def test_wire_may_cut(start: Callable[..., Api]) -> None:
    """A hook can drop the connection, also without a stream."""

    def cut(reply: RawReply, call: ReceivedRequest) -> RawReply:
        reply.cut = True
        return reply

    with pytest.raises(httpx.RemoteProtocolError):
        start(behaviour=Behaviour(wire=cut)).chat()


def test_hooks_get_copies(start: Callable[..., Api]) -> None:
    """A hook's change to one answer affects neither the next answer nor the stored one."""

    def emptied(body: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
        if call.method == "POST":
            body["output"].clear()
        return body

    api = start(behaviour=Behaviour(reply=emptied))
    created = api.post("/v1/responses", input="x").json()

    assert created["output"] == []
    assert api.http.get(f"/v1/responses/{created['id']}").json()["output"] != []


@pytest.mark.parametrize("name", ["/v1/models/{name:path}", "GET /v1/models/{name:path}"])
def test_disabled_route_is_not_there(start: Callable[..., Api], name: str) -> None:
    """A route can be named by its path, with or without the method."""
    api = start(behaviour=Behaviour(disabled_routes=frozenset({name})))

    assert api.http.get("/v1/models/mock").status_code == 404
    assert api.http.get("/v1/models").status_code == 200


def test_unknown_route_is_an_error_of_the_caller(start: Callable[..., Api]) -> None:
    """To disable a route that does not exist is an error."""
    with pytest.raises(ValueError, match="/v1/typo"):
        start(behaviour=Behaviour(disabled_routes=frozenset({"/v1/typo"})))


def test_broken_hook_is_not_taken_for_an_answer(start: Callable[..., Api]) -> None:
    """An exception in a hook becomes a 500, and the end of the server raises it again."""

    def broken(body: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
        raise KeyError("my mistake")

    api = start(behaviour=Behaviour(reply=broken))

    assert api.chat().status_code == 500
    with pytest.raises(KeyError, match="my mistake"):
        api.server.__exit__(None, None, None)
