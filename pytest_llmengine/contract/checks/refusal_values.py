"""Checks of refusal.values: values that the specification does not allow are refused.

The fields and their types and enums are those of OpenAI's specification, so the rules have no list
of their own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from llmengine.mock import specification as spec
from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import pick
from pytest_llmengine.contract.checks.refusal import refused
from pytest_llmengine.contract.facts import NAME_IGNORED, either, together, unknown_model_fact
from pytest_llmengine.contract.outcomes import expect, expect_effect, quote
from pytest_llmengine.contract.registry import EXTENDED, REQUIRED, check
from pytest_llmengine.contract.reply import refuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_llmengine.contract.target import Target

JSON = dict[str, Any]
rule = partial(check, group="refusal.values", level=REQUIRED, tier=EXTENDED, since="2026-11-27")


class CreateRequest(NamedTuple):
    """A create request: its schema, the smallest valid body, and a list that its answer has."""

    path: str
    schema: str
    body: JSON
    key: str
    needs: tuple[Capability, ...] = ()


REQUESTS = {
    "chat": CreateRequest(
        "/chat/completions",
        "CreateChatCompletionRequest",
        {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 1},
        "choices",
    ),
    "completions": CreateRequest(
        "/completions",
        "CreateCompletionRequest",
        {"prompt": "Say hello.", "max_tokens": 1},
        "choices",
        (Capability.COMPLETIONS,),
    ),
    "embeddings": CreateRequest(
        "/embeddings",
        "CreateEmbeddingRequest",
        {"input": "Hello."},
        "data",
        (Capability.EMBEDDINGS,),
    ),
    "responses": CreateRequest(
        "/responses",
        "CreateResponse",
        {"input": "Say hello.", "max_output_tokens": 16},
        "output",
        (Capability.RESPONSES,),
    ),
}
# Without these a server may write until its context is full.
_CAPS = frozenset({"max_completion_tokens", "max_output_tokens", "max_tokens"})
# A value of each JSON type, in the order in which they are tried for a field of other types.
_VALUES: dict[str, object] = {"object": {"a": 1}, "string": "many", "array": [[]]}
INVALID = "not-a-value"


def wrong_types(request: CreateRequest) -> Iterator[JSON]:
    """Each field of a request with a value of a type that it cannot have."""
    for field in sorted(spec.request_fields(f"POST {request.path}").keys() - _CAPS):
        kinds = {kind for s in spec.at(f"{request.schema}.{field}") for kind in spec.types(s)}
        yield {field: next(value for kind, value in _VALUES.items() if kind not in kinds)}


def unknown_values(request: CreateRequest) -> Iterator[JSON]:
    """Each field of a request that has an enum, or an object with one, with another string."""
    for field in spec.request_fields(f"POST {request.path}"):
        path = f"{request.schema}.{field}"
        if spec.enum(path):
            yield {field: INVALID}
            continue
        for schema in spec.at(path):
            if "items" in schema and spec.enum(f"{path}[]"):
                yield {field: [INVALID]}
        names = {n: spec.required(s) for s in spec.at(path) for n in spec.properties(s)}
        for name, required in names.items():
            if spec.enum(f"{path}.{name}") and {*required} <= {name}:
                yield {field: {name: INVALID}}


def _expect_refused(
    request: CreateRequest,
    bodies: Callable[[CreateRequest], Iterator[JSON]],
    what: str,
    target: Target,
) -> None:
    """Expect that each body is refused, after a valid one was answered."""
    body = {"model": target.model, **request.body}
    pick(target.post(request.path, body).success_or_refused(), list, request.key)
    wrong = list(bodies(request))
    crashes: dict[str, str] = {}
    accepted: dict[str, str] = {}
    for part in wrong:
        (field,) = part
        reply = target.post(request.path, {**body, **part})
        if reply.status >= 500 and not refuses(reply.status):
            crashes[field] = reply.cause or f"{request.path}: {field} of {what}: {reply.status}"
        elif not refused(reply, f"{what} {quote(part)}"):
            unchecked = f"{request.path}: {field} is not checked"
            accepted[field] = either(unchecked, f"{field} is dropped")
    ends = {"answered with a 5xx": crashes, "accepted with 200": accepted}
    found = "; ".join(f"{end}: {', '.join(fields)}" for end, fields in ends.items() if fields)
    reason = f"of {len(wrong)} fields with {what}, {found}"
    fact = together([*crashes.values(), *accepted.values()])
    expect(not crashes, reason, fact=fact)
    expect_effect(not accepted, reason, fact=fact)


for _name, _request in REQUESTS.items():
    rule(
        f"refusal.types.{_name}",
        source=f"openai-openapi: {_request.schema}",
        needs=_request.needs,
        title=f"A field of a request to {_request.path} with a value of a wrong type is refused.",
        breaks="A program with a typing error gets an answer that ignores its setting.",
    )(partial(_expect_refused, _request, wrong_types, "a value of a wrong type"))

for _name in ("chat", "embeddings"):
    _request = REQUESTS[_name]
    rule(
        f"refusal.enums.{_name}",
        source=f"openai-openapi: {_request.schema}",
        needs=_request.needs,
        title=f"A value that no enum of a request to {_request.path} has is refused.",
        breaks="A program with a misspelt setting gets an answer that ignores it.",
    )(partial(_expect_refused, _request, unknown_values, "an unknown value"))


def _unknown_model(request: CreateRequest, target: Target) -> None:
    """Expect that a model that is not served is refused, in a whole and in a streamed answer."""
    body = {"model": target.model, **request.body}
    pick(target.post(request.path, body).success_or_refused(), list, request.key)
    streams = "stream" in spec.request_fields(f"POST {request.path}")
    for mode in ({}, {"stream": True})[: 1 + streams]:
        reply = target.post(request.path, {**body, **mode, "model": "no-such-model"})
        expect_effect(
            refused(reply, "an unknown model", fact=unknown_model_fact(reply.status)),
            f"an unknown model was accepted with 200 in a {'streamed' if mode else 'whole'} answer",
            fact=NAME_IGNORED,
        )


for _name, _request in REQUESTS.items():
    rule(
        f"refusal.model.{_name}",
        source=f"openai-openapi: {_request.schema}.model",
        needs=_request.needs,
        title=f"A request to {_request.path} for a model that is not served is refused.",
        breaks="A program that names the wrong model gets answers and a bill of another one.",
    )(partial(_unknown_model, _request))
