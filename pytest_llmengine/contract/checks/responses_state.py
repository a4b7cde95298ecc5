"""Checks of resp.store, resp.background and their kin: the state of the responses API."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import (
    LONG,
    create_response,
    events_of,
    objects,
    pick,
    respond,
    response_of,
    stream_response,
)
from pytest_llmengine.contract.outcomes import (
    Ignored,
    Unmeasured,
    expect,
    expect_effect,
    quote,
)
from pytest_llmengine.contract.registry import EXPECTED, EXTENDED, OPTIONAL, check
from pytest_llmengine.contract.response_assertions import (
    CALL,
    MODES,
    answer,
    expect_larger,
    expect_route,
    expect_stored,
    final,
    found,
    input_tokens,
    mode,
    not_found,
    output_items,
    path_of,
    retrieve,
    stored,
    turned_down,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.samples import JSON
    from pytest_llmengine.contract.target import Target

rule = partial(
    check,
    group="responses.state",
    tier=EXTENDED,
    level=OPTIONAL,
    since="2026-11-27",
    needs={Capability.RESPONSES},
)
_PATHS = "openai-openapi: /responses/{response_id}"
_CREATE = "openai-openapi: CreateResponse"
_CHAIN_DROPPED = "previous_response_id is dropped"
_BACKGROUND_DROPPED = "background is dropped"
_UNENDED = ("queued", "in_progress")


# ---- store and retrieve


@rule(
    "resp.store.retrieve",
    source=_PATHS,
    breaks="A client that reads a response again sees another one.",
)
def retrieve_stored(target: Target) -> None:
    """With store true a response can be retrieved, and is the same object."""
    _expect_same(retrieve(target, body := respond(target, store=True)), body)


@rule(
    "resp.store.stream",
    source=_PATHS,
    breaks="A client whose stream broke cannot read the response.",
)
def retrieve_streamed(target: Target) -> None:
    """A streamed response can be retrieved, and is the one in the last event."""
    body = final(stream_response(target, store=True))
    _expect_same(retrieve(target, body, "store=true in a stream"), body)


@rule(
    "resp.store.default",
    level=EXPECTED,
    source=f"{_CREATE}.store",
    breaks="A client that relies on the default cannot continue the response.",
)
def store_is_the_default(target: Target) -> None:
    """Without store a response is stored, whole and streamed."""
    for stream in MODES:
        retrieve(target, answer(target, stream=stream), f"{mode(stream)}: no store")


@rule(
    "resp.store.disabled",
    source=f"{_CREATE}.store",
    breaks="Data that must not be kept is kept.",
)
def store_false(target: Target) -> None:
    """With store false a response cannot be retrieved, whole and streamed."""
    stored(target)
    for stream in MODES:
        body = answer(target, stream=stream, store=False)
        what = f"{mode(stream)}: a response with store false"
        not_found(target.get(path_of(body)), what, fact="store false is dropped")


def _expect_same(read: JSON, sent: JSON) -> None:
    other = sorted(key for key in read.keys() | sent.keys() if read.get(key) != sent.get(key))
    expect(not other, f"the retrieved response differs in {quote(', '.join(other))}")


# ---- routes of a stored response

_ROUTES = {
    "get": ("GET", ""),
    "delete": ("DELETE", ""),
    "input_items": ("GET", "/input_items"),
    "cancel": ("POST", "/cancel"),
}


def _unknown_id(method: str, more: str, target: Target) -> None:
    expect_route(target.send(method, path_of(stored(target), more)))
    reply = target.send(method, f"/responses/resp_contract_unknown{more}")
    not_found(reply, "an unknown response")


for _name, (_method, _more) in _ROUTES.items():
    rule(
        f"resp.{_name}.unknown",
        title=f"{_method} /responses/ID{_more} with an unknown id is a 404 or 400 with a message.",
        breaks="A client takes a response that is gone for one that it may use.",
        source=f"{_PATHS}{_more}",
    )(partial(_unknown_id, _method, _more))


@rule(
    "resp.delete",
    source=_PATHS,
    breaks="Data that was deleted is still there.",
)
def delete(target: Target) -> None:
    """A deleted response is reported as deleted, and is not found any more."""
    body = stored(target)
    gone = found(target.send("DELETE", path_of(body)))
    expect(gone.get("deleted") is True, f"the answer does not say deleted: {quote(gone)}")
    expect(gone.get("id") == body["id"], f"the answer has the id {gone.get('id')!r}")
    not_found(target.get(path_of(body)), "a deleted response", fact="delete is dropped")


_GIVEN: list[JSON] = [
    {"role": "user", "content": "My name is Ludmila."},
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "Say hello."},
]


@rule(
    "resp.input_items.list",
    source=f"{_PATHS}/input_items; openai-openapi: ResponseItemList",
    breaks="A client that shows a conversation misses a part of it.",
)
def input_items(target: Target) -> None:
    """The input items are those that were sent, in their order, each with an id."""
    for given in ("Say hello.", _GIVEN):
        listed = _input_items(target, stored(target, given), "?order=asc")
        wanted = [given] if isinstance(given, str) else [item["content"] for item in given]
        said = [_text(item) for item in listed]
        expect(said == wanted, f"the items are {quote(said)} instead of {quote(wanted)}")
        ids = _ids(listed)
        expect(len(set(ids)) == len(ids), f"the ids are {quote(ids)}")


@rule(
    "resp.input_items.pages",
    source=f"{_PATHS}/input_items; openai-openapi: ResponseItemList",
    breaks="A client that reads page by page loops or loses items.",
)
def input_items_pages(target: Target) -> None:
    """The input items obey order, limit and after, and has_more is true before the last page."""
    body = stored(target, _GIVEN)
    whole = _ids(_input_items(target, body, "?order=asc"))
    pages: list[str] = []
    query = "?order=asc&limit=2"
    for more in (True, False):
        page = found(target.get(path_of(body, f"/input_items{query}")))
        expect(page.get("has_more") is more, f"has_more is {page.get('has_more')!r}")
        expect(objects(page, "data"), "a page has no items")
        pages += _ids(objects(page, "data"))
        expect(page.get("last_id") == pages[-1], f"last_id is {page.get('last_id')!r}")
        query = f"?order=asc&limit=2&after={pages[-1]}"
    expect(pages == whole, f"the pages have {quote(pages)}, the list has {quote(whole)}")
    reverse = _ids(_input_items(target, body, "?order=desc"))
    expect_effect(reverse == whole[::-1], f"order=desc has {quote(reverse)}")


def _input_items(target: Target, body: JSON, query: str = "") -> list[JSON]:
    listed = found(target.get(path_of(body, f"/input_items{query}")))
    expect(listed.get("object") == "list", f"the object is {listed.get('object')!r}")
    return objects(listed, "data")


def _ids(listed: list[JSON]) -> list[str]:
    return [pick(item, str, "id") for item in listed]


def _text(item: JSON) -> str:
    content = item.get("content")
    return content if isinstance(content, str) else pick(item, str, "content", 0, "text")


# ---- chains


def _chained(
    target: Target, first: JSON, given: object = "Say it.", *, stream: bool = False, **params: Any
) -> JSON:
    """A response that continues the first one, which was to be stored.

    A server that does not find the first one has not stored it.
    """
    sent = {"previous_response_id": pick(first, str, "id"), **params}
    reply = create_response(target, given, **({"stream": True} if stream else {}), **sent)
    expect_stored(reply)
    return final(events_of(reply)) if stream else response_of(reply)


@rule(
    "resp.previous_response_id.effect",
    source=f"{_CREATE}.previous_response_id",
    breaks="A chat that sends only the new message begins from nothing at each turn.",
)
def previous_response(target: Target) -> None:
    """previous_response_id puts the earlier input and output before the prompt, in both modes."""
    alone = respond(target, "Say it.")
    for stream in MODES:
        first = answer(target, "My name is Ludmila.", stream=stream, store=True)
        second = _chained(target, first, stream=stream)
        expect_larger(target, alone, second, mode(stream), _CHAIN_DROPPED)
        given = second.get("previous_response_id")
        expect(given == first["id"], f"{mode(stream)}: the response names {given!r}")


@rule(
    "resp.previous_response_id.twice",
    source=f"{_CREATE}.previous_response_id",
    breaks="Two branches of one conversation read each other's messages.",
)
def two_branches(target: Target) -> None:
    """Two responses that continue the same one do not see each other."""
    first = respond(target, "My name is Ludmila.", store=True)
    one, two = (_chained(target, first) for _ in range(2))
    expect_larger(target, first, one, "a continued response", _CHAIN_DROPPED)
    same = input_tokens(one) == input_tokens(two)
    expect(same, f"one has {input_tokens(one)} tokens, the other {input_tokens(two)}")


@rule(
    "resp.previous_response_id.instructions",
    level=EXPECTED,
    source=f"{_CREATE}.instructions",
    breaks="A client that changes the system prompt of a conversation has both.",
)
def instructions_are_not_carried_over(target: Target) -> None:
    """The instructions of a previous response are not those of the next one."""
    plain, instructed = (
        respond(target, "Hi", store=True, instructions=text)
        for text in ("Be brief.", "Be brief. " * 30)
    )
    one, two = (_chained(target, first) for first in (plain, instructed))
    expect_larger(target, plain, one, "a continued response", _CHAIN_DROPPED)
    grown = input_tokens(two) - input_tokens(one)
    expect(grown < 40, f"after longer instructions the next prompt has {grown} tokens more")


@rule(
    "resp.previous_response_id.call",
    source="openai-openapi: FunctionCallOutputItemParam",
    needs={Capability.RESPONSES, Capability.TOOLS},
    breaks="An agent cannot give the result of a call without the whole history.",
)
def result_of_a_call(target: Target) -> None:
    """The output of a function call can follow by previous_response_id alone."""
    first = respond(target, store=True, **CALL)
    call = output_items(first, "function_call", "it makes no call")[0]
    result = {
        "type": "function_call_output",
        "call_id": pick(call, str, "call_id"),
        "output": "Sunny.",
    }
    second = _chained(target, first, [result], tools=CALL["tools"])
    expect_larger(target, first, second, "the continued response", _CHAIN_DROPPED)


# ---- background


def _started(target: Target, given: str = "Say hello.", **params: object) -> JSON:
    """A response in background; ignored if the server has answered as usual."""
    body = respond(target, given, background=True, store=True, **params)
    if body.get("background") is not True and body.get("status") not in _UNENDED:
        reason = f"background was accepted, and the status is {quote(body.get('status'))}"
        raise Ignored(reason, fact=_BACKGROUND_DROPPED)
    return body


def _polled(target: Target, body: JSON) -> JSON:
    """The response when it has ended; without a clock there is no pause between polls."""
    for poll in range(60):
        body = retrieve(target, body, "background=true")
        if body.get("status") not in _UNENDED:
            return body
        if target.clock and poll > 2:
            time.sleep(0.5)
    raise Ignored("a response in background does not end in 60 polls", fact=_BACKGROUND_DROPPED)


@rule(
    "resp.background.polled",
    source=f"{_CREATE}.background",
    breaks="A client that starts a long answer in background waits for it, or never gets it.",
)
def background(target: Target) -> None:
    """A response in background is returned before it ends, and polls see its output."""
    first = _started(target)
    status = first.get("status")
    expect(status in {*_UNENDED, "completed", "incomplete"}, f"the status is {status!r}")
    if status in _UNENDED:
        expect(not first.get("output"), f"a response that is {status!r} has an output")
    ended = _polled(target, first)
    expect(ended.get("status") in {"completed", "incomplete"}, f"ended as {ended.get('status')!r}")
    expect(objects(ended, "output"), "the ended response has no output")
    said = ended.get("background", True)
    expect(said is True, f"the ended response says background {said!r}")


@rule(
    "resp.background.cancel",
    source=f"{_PATHS}/cancel",
    breaks="A client that cancels a long answer pays for all of it.",
)
def background_cancel(target: Target) -> None:
    """A response in background can be cancelled, and stays so."""
    body = _started(target, LONG, max_output_tokens=64)
    cancelled = found(target.send("POST", path_of(body, "/cancel")))
    status = cancelled.get("status")
    if status in {"completed", "incomplete"}:
        raise Unmeasured("the response had ended before it was cancelled")
    expect(status == "cancelled", f"after the cancellation the status is {status!r}")
    after = retrieve(target, body).get("status")
    expect(after == "cancelled", f"after the cancellation a poll sees {after!r}")


@rule(
    "resp.background.stream",
    source="openai-openapi: ResponseQueuedEvent",
    breaks="A client cannot tell that a streamed response goes on after a disconnect.",
)
def background_stream(target: Target) -> None:
    """A stream in background says so in its first response, and the response is stored."""
    events = stream_response(target, background=True, store=True)
    first = pick(events[0], dict, "response")
    said = f"says {quote(first['background'])}" if "background" in first else "does not name it"
    expect_effect(
        first.get("background") is True,
        f"background was accepted, and the response in the first event {said}",
        fact=_BACKGROUND_DROPPED,
    )
    retrieve(target, final(events))


@rule(
    "resp.cancel.synchronous",
    level=EXPECTED,
    source=f"{_PATHS}/cancel",
    breaks="A client believes that it has cancelled an answer that was complete.",
)
def cancel_synchronous(target: Target) -> None:
    """A response that is not in background cannot be cancelled."""
    body = stored(target)
    turned_down(target.send("POST", path_of(body, "/cancel")), "cancel of a complete response")


@rule(
    "resp.background.store",
    level=EXPECTED,
    source=f"{_CREATE}.background",
    breaks="A client polls for a response that the server does not keep.",
)
def background_needs_store(target: Target) -> None:
    """Background with store false is refused."""
    respond(target)
    reply = create_response(target, background=True, store=False)
    turned_down(reply, "background with store false", fact=_BACKGROUND_DROPPED)


# ---- conversations and counts


@rule(
    "resp.conversation.continued",
    source=f"{_CREATE}.conversation",
    breaks="An assistant that keeps its thread in a conversation forgets each turn.",
)
def conversation(target: Target) -> None:
    """A conversation puts its items and the earlier turns before the prompt, in both modes."""
    alone = respond(target, "Say it.")
    name = _conversation(target)
    before = alone
    for stream in MODES:
        after = answer(target, "Say it.", stream=stream, conversation=name)
        expect_larger(target, before, after, mode(stream), "conversation is dropped")
        said = after.get("conversation")
        named = isinstance(said, dict) and said.get("id") == name
        expect(named, f"{mode(stream)}: the response names {quote(said)}")
        before = after


def _conversation(target: Target) -> str:
    given = [{"type": "message", "role": "user", "content": "My name is Ludmila."}]
    reply = target.post("/conversations", {"items": given})
    expect_route(reply)
    return pick(reply.success_or_refused(), str, "id")


@rule(
    "resp.conversation.exclusive",
    level=EXPECTED,
    source=f"{_CREATE}.conversation",
    breaks="A client that gives two histories does not learn which one was used.",
)
def two_histories(target: Target) -> None:
    """Conversation together with previous_response_id is refused."""
    first = respond(target, store=True)
    both = {"conversation": _conversation(target), "previous_response_id": first["id"]}
    what = "conversation with previous_response_id"
    turned_down(create_response(target, **both), what, fact="conversation is dropped")


@rule(
    "resp.input_tokens",
    source="openai-openapi: /responses/input_tokens",
    breaks="A client that fits its prompt to the context counts too little.",
)
def count_of_input_tokens(target: Target) -> None:
    """/responses/input_tokens counts as many tokens as the usage of the answer has."""
    body = {"model": target.model, "input": "Say hello.", "instructions": "Be brief."}
    reply = target.post("/responses/input_tokens", body)
    expect_route(reply)
    counted = pick(reply.success_or_refused(), int, "input_tokens")
    used = input_tokens(respond(target, instructions="Be brief."))
    expect(counted == used, f"counted are {counted} tokens, used {used}")
