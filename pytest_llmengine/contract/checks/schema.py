"""Checks of schema: whole answers, events and errors fit OpenAI's specification, field by field."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote as url_quote

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import objects, pick, provoke
from pytest_llmengine.contract.facts import together
from pytest_llmengine.contract.outcomes import Unmeasured, expect, quote
from pytest_llmengine.contract.registry import EXPECTED, EXTENDED, REQUIRED, check
from pytest_llmengine.contract.response_assertions import expect_stored
from pytest_llmengine.contract.response_schema import (
    Violation,
    error_violations,
    event_violations,
    repeated_keys,
    told,
    whole_violations,
)
from pytest_llmengine.contract.samples import ASK_WEATHER, CALL_TOKENS, WEATHER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

rule = partial(check, tier=EXTENDED, group="schema", since="2026-11-27")
_NO_ANSWER = {"choices is missing", "output is missing", "type has an unknown value"}
NULL_AT_OPENAI = frozenset({"usage", "user", "response.usage", "response.user"})

_WEATHER = {"type": "function", **WEATHER["function"]}
_NAMED = {"type": "function", "name": WEATHER["function"]["name"]}
_BACKGROUND = {"input": "Say hello.", "max_output_tokens": 16, "background": True, "store": True}
_CALL = {"tools": [WEATHER], "tool_choice": "required"}
_CHAT, _COMPLETION, _RESPONSE = "POST /chat/completions", "POST /completions", "POST /responses"
_HELLO = [{"role": "user", "content": "Say hello."}]
_ASK = [{"role": "user", "content": ASK_WEATHER}]
_CHATS = (
    {"messages": _HELLO, "max_tokens": 8},
    {"messages": _HELLO, "max_tokens": 8, "logprobs": True, "top_logprobs": 2},
    {"messages": _ASK, "max_tokens": CALL_TOKENS, **_CALL},
)
_PROMPTS = (
    {"prompt": "Once upon a time", "max_tokens": 4},
    {"prompt": "Once upon a time", "max_tokens": 4, "logprobs": 1},
)
_INPUTS = (
    {"input": "Say hello.", "max_output_tokens": 16},  # the cap cuts most answers
    {"input": "Repeat exactly: yes", "max_output_tokens": 32},
    {
        "input": ASK_WEATHER,
        "max_output_tokens": CALL_TOKENS,
        "tools": [_WEATHER],
        "tool_choice": "required",
    },
    {
        "input": "Say hello.",
        "max_output_tokens": 16,
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
    },
    {
        "input": "Say hello.",
        "max_output_tokens": 32,
        "reasoning": {"effort": "high", "summary": "detailed"},
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_options": {"mode": "explicit"},
    },
    {
        "input": ASK_WEATHER,
        "max_output_tokens": CALL_TOKENS,
        "tools": [_WEATHER],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [_NAMED]},
    },
    _BACKGROUND,
)
_STATES = (("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", ""))


Problems = set[Violation]


def _answers(
    operation: str, bodies: Iterable[dict[str, Any]], target: Target, *, streamed: bool = False
) -> Problems:
    """How the answers to these bodies break the schema of an operation.

    A server may refuse each body but the first, because the others ask for optional features.
    """
    path = operation.partition(" ")[2]
    read = _events if streamed else _whole
    found: Problems = set()
    for number, body in enumerate(bodies):
        reply = target.post(path, {"model": target.model, **body})
        if reply.ok or number == 0:
            found |= read(operation, reply)
    return found


def _streams(operation: str, bodies: Iterable[dict[str, Any]], target: Target) -> Problems:
    return _answers(operation, ({**b, "stream": True} for b in bodies), target, streamed=True)


def _whole(operation: str, reply: Reply) -> Problems:
    body = reply.success_or_refused()
    return whole_violations(operation, body) | repeated_keys(reply.text)


def _events(operation: str, reply: Reply) -> Problems:
    found: Problems = set()
    for event in reply.objects_or_refused():
        found |= event_violations(operation, event)
    for sent in reply.events:
        found |= repeated_keys(sent.data)
    return found


def _models(target: Target) -> Problems:
    found = _whole("GET /models", listed := target.get("/models"))
    for model in objects(listed.object(), "data")[:1]:
        one = target.get(f"/models/{url_quote(pick(model, str, 'id'), safe='')}")
        found |= _whole("GET /models/{model}", one) if one.ok else set()
    return found


def _stored_chats(target: Target) -> Problems:
    """What is said of a stored chat completion; it is the one that was created."""
    reply = target.chat(max_tokens=4, store=True)
    created = reply.success_or_refused()
    path = f"/chat/completions/{url_quote(pick(created, str, 'id'), safe='')}"
    found = target.get(path)
    if not found.ok:
        raise Unmeasured("this server stores no chat completions")
    stored = found.object()
    for key in ("id", "object", "created", "model", "usage"):
        same = stored.get(key) == created.get(key)
        expect(same, f"{key} is {quote(created.get(key))}, and stored {quote(stored.get(key))}")
    said, kept = _said(created), _said(stored)
    expect(said == kept, f"the choices are {quote(said)}, and stored {quote(kept)}")
    deletion = target.send("DELETE", path)
    ended = {"object": "chat.completion.deleted", "id": created["id"], "deleted": True}
    expect(ended.items() <= deletion.success().items(), f"the deletion says {quote(deletion.text)}")
    twice = repeated_keys(deletion.text)
    return _whole("GET /chat/completions/{completion_id}", found) | twice


def _said(body: dict[str, Any]) -> list[tuple[object, ...]]:
    """Index, finish reason and message of each choice, without what is null or empty in it."""
    return [
        (
            choice.get("index"),
            choice.get("finish_reason"),
            {k: v for k, v in pick(choice, dict, "message").items() if v not in (None, [])},
        )
        for choice in objects(body, "choices")
    ]


def _states(target: Target) -> Problems:
    """What is said of a stored response, and of one in background if the server has that."""
    sent = {"model": target.model, **_BACKGROUND}
    found: Problems = set()
    for body in ({**sent, "background": False}, sent):
        created = target.post("/responses", body)
        if body["background"] and not created.ok:
            continue
        name = pick(created.success_or_refused(), str, "id")
        for method, end in _STATES:
            reply = target.send(method, f"/responses/{url_quote(name, safe='')}{end}")
            if (method, end) == _STATES[0]:
                expect_stored(reply)
                reply.success_or_refused()
            if reply.ok:
                found |= _whole(f"{method} /responses/{{response_id}}{end}", reply)
                _expect_consistent(end, created.object(), reply.object())
    counted = target.post("/responses/input_tokens", {"model": target.model, "input": "Hello."})
    return found | (_whole("POST /responses/input_tokens", counted) if counted.ok else set())


# The tier is the one that was used, which is not known before.
_CHANGED_BY_CANCEL = frozenset(
    {
        *("completed_at", "error", "incomplete_details", "output", "output_text"),
        *("service_tier", "status", "usage"),
    }
)


def _expect_consistent(end: str, created: dict[str, Any], answer: dict[str, Any]) -> None:
    """Expect that a list names its ends, and that a cancellation changes no setting."""
    if end == "/input_items":
        names = [item.get("id") for item in objects(answer, "data")]
        ends = [answer.get("first_id"), answer.get("last_id")]
        named = f"the first and the last of {quote(names)} are {quote(ends)}"
        expect(not names or ends == [names[0], names[-1]], named)
    if end == "/cancel":
        keys = (created.keys() | answer.keys()) - _CHANGED_BY_CANCEL
        others = sorted(key for key in keys if created.get(key) != answer.get(key))
        changed = f"the cancelled response has other values of {', '.join(others)}"
        expect(not others, f"{changed}: {quote(answer)}")


def _errors(target: Target) -> Problems:
    found: Problems = set()
    for reply in provoke(target).values():
        found |= error_violations(reply.object()) | repeated_keys(reply.text)
    return found


_USAGE = {"stream_options": {"include_usage": True}}


class SchemaRule(NamedTuple):
    """What is looked at, its schema, and what a server needs for it."""

    look: Callable[[Target], Problems]
    schema: str
    needs: frozenset[Capability] = frozenset()


_STREAMS = frozenset({Capability.STREAMING})
_ROWS: dict[str, SchemaRule] = {
    "chat": SchemaRule(partial(_answers, _CHAT, _CHATS), "CreateChatCompletionResponse"),
    "chat.stream": SchemaRule(
        partial(_streams, _CHAT, [c | _USAGE for c in _CHATS]),
        "CreateChatCompletionStreamResponse",
        _STREAMS,
    ),
    "comp": SchemaRule(
        partial(_answers, _COMPLETION, _PROMPTS),
        "CreateCompletionResponse",
        frozenset({Capability.COMPLETIONS}),
    ),
    "comp.stream": SchemaRule(
        partial(_streams, _COMPLETION, [c | _USAGE for c in _PROMPTS]),
        "CreateCompletionResponse",
        _STREAMS | {Capability.COMPLETIONS},
    ),
    "resp": SchemaRule(
        partial(_answers, _RESPONSE, _INPUTS), "Response", frozenset({Capability.RESPONSES})
    ),
    "resp.stream": SchemaRule(
        partial(_streams, _RESPONSE, _INPUTS),
        "ResponseStreamEvent",
        _STREAMS | {Capability.RESPONSES},
    ),
    "chat.state": SchemaRule(_stored_chats, "CreateChatCompletionResponse"),
    "resp.state": SchemaRule(_states, "Response", frozenset({Capability.RESPONSES})),
    "emb": SchemaRule(
        partial(_answers, "POST /embeddings", [{"input": ["Hello", "The sea is blue."]}]),
        "CreateEmbeddingResponse",
        frozenset({Capability.EMBEDDINGS}),
    ),
    "models": SchemaRule(_models, "ListModelsResponse, Model"),
    "err": SchemaRule(_errors, "ErrorResponse"),
}


# What the events of responses hold, by its place in a whole response.
_IN_EVENTS = (("response.", ""), ("item.", "output[]."), ("part.", "output[].content[]."))


def _place(path: str) -> str:
    """The path of a field; for one in an event of responses, that in a whole response."""
    for start, there in _IN_EVENTS:
        if path.startswith(start):
            return there + path.removeprefix(start)
    return path


def _facts(name: str, violations: Iterable[Violation]) -> str:
    """The causes of violations."""
    return together(_fact(name, replace(one, path=_place(one.path))) for one in violations)


def _fact(name: str, violation: Violation) -> str:
    """The cause of a violation; those of a chat completion and of errors have no prefix.

    The usage of a completion has none either: the specification has one schema for both.
    """
    of_chat = name.startswith("comp") and violation.path.startswith("usage.")
    return f"{'' if of_chat else _OBJECTS.get(name.partition('.')[0], '')}{violation}"


_OBJECTS = {
    "comp": "completion: ",
    "resp": "response: ",
    "emb": "embeddings: ",
    "models": "models: ",
}


def _fits(name: str, look: Callable[[Target], Problems], target: Target) -> None:
    """Expect that the schema is kept, but for optional fields that are null."""
    broken = {one for one in look(target) if not one.is_null}
    expect(
        not broken,
        f"the schema is broken: {'; '.join(told(broken))}",
        fact=_facts(name, broken),
    )


def _has_no_nulls(name: str, look: Callable[[Target], Problems], target: Target) -> None:
    """Expect that no optional field is null, but for those that OpenAI's examples have."""
    found = look(target)
    expect(not _NO_ANSWER & set(map(str, found)), "the body is not an answer")
    nulls = {one for one in found if one.is_null and one.path not in NULL_AT_OPENAI}
    paths = sorted({one.path for one in nulls})
    expect(
        not nulls,
        f"these fields may be absent but not null: {', '.join(paths)}",
        fact=_facts(name, nulls),
    )


for _name, _row in _ROWS.items():
    rule(
        f"{_name}.schema",
        level=REQUIRED,
        source=f"openai-openapi: {_row.schema}",
        needs=_row.needs,
        title="Each field has the type of the schema, no required one is missing, none is twice.",
        breaks="A client with typed answers, as in Go or Rust, rejects the answer.",
    )(partial(_fits, _name, _row.look))
    if _name in {
        "chat.state",
        "resp.state",
        "emb",
        "models",
        "err",
    }:  # they have no optional field that must not be null
        continue
    rule(
        f"{_name}.schema_nulls",
        level=EXPECTED,
        source=f"openai-openapi: {_row.schema}",
        needs=_row.needs,
        title="An optional field without a value is absent, where the schema does not allow null.",
        breaks="A client with typed answers rejects the null, unless its types are lenient.",
    )(partial(_has_no_nulls, _name, _row.look))
