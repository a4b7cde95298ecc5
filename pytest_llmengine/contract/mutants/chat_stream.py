"""Mutants of chat.stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import choices, chunks, events, forgets, sent
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON, RawReply, ReceivedRequest

DONE = b"data: [DONE]\n\n"


def _as_json(reply: RawReply, call: ReceivedRequest) -> RawReply:
    reply.headers["content-type"] = "application/json"
    return reply


def _without_hints_to_proxies(reply: RawReply, call: ReceivedRequest) -> RawReply:
    reply.headers.pop("cache-control", None)
    reply.headers.pop("x-accel-buffering", None)
    return reply


def _error_in_the_stream(reply: RawReply, call: ReceivedRequest) -> RawReply:
    if reply.status == 200:
        return reply
    reply.headers["content-type"] = "text/event-stream"
    reply.headers.pop("content-length", None)
    reply.status, reply.chunks = 200, [b"data: " + b"".join(reply.chunks) + b"\n\n", DONE]
    return reply


def _ids_by_place(found: list[JSON]) -> list[JSON]:
    return [{**event, "id": f"chatcmpl-{place}"} for place, event in enumerate(found)]


def _late_created(found: list[JSON]) -> list[JSON]:
    found[-1]["created"] += 1
    return found


def _role_in_every_delta(choice: JSON) -> None:
    choice["delta"]["role"] = "assistant"


def _no_role(choice: JSON) -> None:
    choice["delta"].pop("role", None)


def _always_finished(choice: JSON) -> None:
    choice["finish_reason"] = choice["finish_reason"] or "stop"


def _never_finished(choice: JSON) -> None:
    choice["finish_reason"] = None


def _goes_on_after_the_end(found: list[JSON]) -> list[JSON]:
    after = {**found[-1], "choices": [{**found[-1]["choices"][0], "finish_reason": None}]}
    return [*found, after]


def _text_beside_the_finish_reason(choice: JSON) -> None:
    if choice["finish_reason"]:
        choice["delta"]["content"] = "."


def _without_one_piece_of_text(found: list[JSON]) -> list[JSON]:
    return [*found[:2], *found[3:]]


def _one_index(choice: JSON) -> None:
    choice["index"] = 0


def _joined(found: list[JSON]) -> list[JSON]:
    """The chunks of all choices as those of one, which ends once."""
    for place, event in enumerate(found):
        for choice in event["choices"]:
            choice["index"] = 0
            if place < len(found) - 1:
                choice["finish_reason"] = None
    return found


def _second_choice_never_ends(choice: JSON) -> None:
    if choice["index"] == 1:
        choice["finish_reason"] = None


def _empty_logprobs(choice: JSON) -> None:
    if choice["logprobs"]:
        choice["logprobs"]["content"] = []


def _says_stop(choice: JSON) -> None:
    choice["finish_reason"] = choice["finish_reason"] and "stop"


mutant("chat.stream.content_type", Behaviour("a stream as JSON", wire=_as_json))
mutant("chat.stream.done_sentinel", Behaviour("no [DONE]", wire=sent(lambda c: c[:-1])))
mutant("chat.stream.done_sentinel", Behaviour("two [DONE]", wire=sent(lambda c: [*c, DONE])))
mutant(
    "chat.stream.done_sentinel",
    Behaviour("an event after [DONE]", wire=sent(lambda c: [*c, c[0]])),
)
mutant(
    "chat.stream.object_const",
    Behaviour("object as in a whole", events=chunks(lambda c: c.update(object="chat.completion"))),
)
mutant("chat.stream.id_constant", Behaviour("an id a chunk", events=events(_ids_by_place)))
mutant(
    "chat.stream.created_constant", Behaviour("created by the clock", events=events(_late_created))
)
mutant(
    "chat.stream.role_first_only", Behaviour("a role a chunk", events=choices(_role_in_every_delta))
)
mutant("chat.stream.role_first_only", Behaviour("no role", events=choices(_no_role)))
mutant("chat.stream.finish_once", Behaviour("finished all along", events=choices(_always_finished)))
mutant("chat.stream.finish_once", Behaviour("never finished", events=choices(_never_finished)))
mutant(
    "chat.stream.finish_once", Behaviour("a chunk after it", events=events(_goes_on_after_the_end))
)
mutant(
    "chat.stream.finish_empty_delta",
    Behaviour("the last text comes late", events=choices(_text_beside_the_finish_reason)),
)
mutant(
    "chat.stream.finish_empty_delta", Behaviour("no last chunk", events=choices(_never_finished))
)
mutant(
    "chat.stream.concat_equals_nonstream",
    Behaviour("a piece of text lost", events=events(_without_one_piece_of_text)),
)
mutant(
    "chat.stream.incremental",
    Behaviour("all at the end", wire=sent(lambda c: [b"".join(c)])),
)
mutant("chat.stream.n_interleaved", Behaviour("n ignored", request=forgets("n")))
mutant("chat.stream.n_interleaved", Behaviour("one index for all", events=choices(_one_index)))
mutant("chat.stream.n_interleaved", Behaviour("texts joined", events=events(_joined)))
mutant(
    "chat.stream.n_interleaved",
    Behaviour("one choice left open", events=choices(_second_choice_never_ends)),
)
mutant(
    "chat.stream.logprobs",
    Behaviour("logprobs ignored", request=forgets("logprobs", "top_logprobs")),
)
mutant("chat.stream.logprobs", Behaviour("no tokens in them", events=choices(_empty_logprobs)))
mutant("chat.stream.x_accel", Behaviour("no hints to proxies", wire=_without_hints_to_proxies))
mutant("chat.stream.error.before_first_byte", Behaviour("a 200 first", wire=_error_in_the_stream))
mutant(
    "chat.stream.error.before_first_byte",
    Behaviour("no check of types", without_rules=frozenset({"chat.wrong_type"})),
)
mutant("chat.stream.truncation_detectable", Behaviour("always stop", events=choices(_says_stop)))
mutant(
    "chat.stream.truncation_detectable",
    Behaviour("no finish reason", events=choices(_never_finished)),
)
