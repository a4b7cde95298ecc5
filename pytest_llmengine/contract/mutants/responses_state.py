"""Mutants of resp.store, resp.background and their kin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import (
    answering,
    body,
    chunks,
    dropping,
    dropping_each,
    put,
    rule_off,
)
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock.behaviour import JSON, RawReply, ReceivedRequest
    from pytest_llmengine.contract.mutants.hooks import Hook, WireHook

_RETRIEVE = "GET /v1/responses/{response_id}"


def _retrieved(edit: Callable[[JSON], object], method: str = "GET", path: str = "") -> Hook:
    """A ``reply`` hook that edits the answers to one method, on paths that end in `path`."""

    def hook(value: JSON, call: ReceivedRequest) -> JSON:
        if call.method == method and call.path.endswith(path):
            edit(value)
        return value

    return hook


for _name in ("retrieve", "stream", "default"):
    _lost = frozenset({_RETRIEVE})
    mutant(f"resp.store.{_name}", Behaviour("not stored", disabled_routes=_lost))
for _name in ("retrieve", "stream"):
    _cut = _retrieved(lambda b: b["output"].clear())
    mutant(f"resp.store.{_name}", Behaviour("output lost", reply=_cut))
dropping_each("resp.store.disabled", "store")


def _not_by_default(request: JSON) -> None:
    request.setdefault("store", False)


mutant("resp.store.default", Behaviour("not by default", request=body(_not_by_default)))


# ---- routes of a stored response


def _unknown(method: str) -> Callable[[ReceivedRequest], bool]:
    return lambda call: call.method == method and "resp_contract_unknown" in call.path


for _name, _method in {"get": "GET", "delete": "DELETE", "input_items": "GET"}.items():
    mutant(
        f"resp.{_name}.unknown",
        Behaviour("answered with 200", wire=answering(200, {}, when=_unknown(_method))),
    )
    mutant(
        f"resp.{_name}.unknown",
        Behaviour("answered with 500", wire=answering(500, {}, when=_unknown(_method))),
    )
mutant(
    "resp.cancel.unknown",
    Behaviour("answered with 200", wire=answering(200, {}, when=_unknown("POST"))),
)


def _still_there() -> WireHook:
    """A server that reports a response as deleted and answers it nevertheless."""
    deleted: set[str] = set()

    def hook(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if call.method == "DELETE":
            deleted.add(call.path)
        elif call.path in deleted:
            reply.status = 200
        return reply

    return hook


mutant("resp.delete", Behaviour("still there", wire=_still_there()))
mutant(
    "resp.delete",
    Behaviour("not reported", reply=_retrieved(lambda b: b.update(deleted=False), "DELETE")),
)
_LIST = "/input_items"
mutant(
    "resp.input_items.list",
    Behaviour("an item lost", reply=_retrieved(lambda b: b["data"].pop(), path=_LIST)),
)
mutant(
    "resp.input_items.list",
    Behaviour("in order", reply=_retrieved(lambda b: b["data"].reverse(), path=_LIST)),
)
mutant(
    "resp.input_items.pages",
    Behaviour("no more", reply=_retrieved(lambda b: b.update(has_more=False), path=_LIST)),
)


def _order_ignored(value: JSON, call: ReceivedRequest) -> JSON:
    if "order=desc" in call.query:
        value["data"].reverse()
    return value


mutant("resp.input_items.pages", Behaviour("order ignored", reply=_order_ignored))


# ---- chains

_PREVIOUS = "previous_response_id"
dropping_each(f"resp.{_PREVIOUS}.effect", _PREVIOUS)
mutant(f"resp.{_PREVIOUS}.effect", Behaviour("not named", reply=put(None, _PREVIOUS)))
for _name in ("twice", "instructions", "call"):
    _drop = dropping(_PREVIOUS, stream=False)
    mutant(f"resp.{_PREVIOUS}.{_name}", Behaviour("dropped", request=_drop))


def _one_thread() -> Behaviour:
    """A server that continues from the latest response, whichever was named."""
    latest: list[str] = []

    def note(value: JSON, call: ReceivedRequest) -> JSON:
        latest.append(value["id"])
        return value

    def swap(request: JSON, call: ReceivedRequest) -> JSON:
        return {**request, _PREVIOUS: latest[-1]} if _PREVIOUS in request else request

    return Behaviour("one thread", request=swap, reply=note)


def _carries_instructions_over() -> Behaviour:
    known: dict[str, str] = {}

    def note(value: JSON, call: ReceivedRequest) -> JSON:
        known[value["id"]] = value["instructions"]
        return value

    def add(request: JSON, call: ReceivedRequest) -> JSON:
        return {"instructions": known.get(request.get(_PREVIOUS, "")), **request}

    return Behaviour("instructions carried over", request=add, reply=note)


mutant(f"resp.{_PREVIOUS}.twice", _one_thread())
mutant(f"resp.{_PREVIOUS}.instructions", _carries_instructions_over())

for _name in ("effect", "twice", "instructions", "call"):
    _kept = body(lambda request: request.update(store=False))
    mutant(f"resp.{_PREVIOUS}.{_name}", Behaviour("nothing stored", request=_kept))


# ---- background, conversations and counts

for _name in ("polled", "cancel", "store"):
    _drop = dropping("background", stream=False)
    mutant(f"resp.background.{_name}", Behaviour("background dropped", request=_drop))
mutant(
    "resp.background.stream",
    Behaviour("background dropped", request=dropping("background", stream=True)),
)
mutant(
    "resp.background.stream",
    Behaviour("not stored", disabled_routes=frozenset({_RETRIEVE})),
)
mutant(
    "resp.background.polled",
    Behaviour("output lost", reply=_retrieved(lambda b: b["output"].clear())),
)
mutant(
    "resp.background.cancel",
    Behaviour(
        "cancel without effect",
        reply=_retrieved(lambda b: b.update(status="in_progress"), "POST", "/cancel"),
    ),
)
mutant(
    "resp.background.cancel",
    Behaviour("goes on", reply=_retrieved(lambda b: b.update(status="in_progress"))),
)
mutant(
    "resp.cancel.synchronous",
    Behaviour(
        "answered with 200",
        wire=answering(200, {}, when=lambda call: call.path.endswith("/cancel")),
    ),
)
rule_off("resp.background.store")
dropping_each("resp.conversation.continued", "conversation")
mutant(
    "resp.conversation.continued",
    Behaviour("not named", events=chunks(lambda e: e.get("response", {}).pop("conversation", 0))),
)
rule_off("resp.conversation.exclusive")
mutant(
    "resp.input_tokens",
    Behaviour(
        "off by one",
        reply=_retrieved(lambda b: b.update(input_tokens=1), "POST", "/input_tokens"),
    ),
)
