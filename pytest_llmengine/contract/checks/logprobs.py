"""Checks of logprobs: the log-probabilities of the tokens in a chat completion."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import (
    choice,
    content,
    missing,
    need_text,
    objects,
    pick,
    reasoning,
    rejected,
    usage,
)
from pytest_llmengine.contract.facts import LOGPROBS_DROPPED
from pytest_llmengine.contract.outcomes import (
    Unmeasured,
    expect,
    expect_effect,
    expect_strict,
    quote,
)
from pytest_llmengine.contract.registry import (
    CORE,
    EXPECTED,
    EXTENDED,
    OPTIONAL,
    REQUIRED,
    SMOKE,
    check,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="logprobs")

SPEC = "openai-openapi: ChatCompletionTokenLogprob"
NEEDS = {Capability.LOGPROBS}
_ROUNDING = 1e-4


@rule(
    "logprobs.supported",
    level=OPTIONAL,
    tier=SMOKE,
    source="openai-openapi: CreateChatCompletionRequest.logprobs",
    needs=NEEDS,
)
def supported(target: Target) -> None:
    """Logprobs true gives logprobs.

    Programs that measure confidence, or rank texts, get nothing.
    """
    expect(_entries(_ask(target)), "the list of logprobs is empty")


@rule("logprobs.shape", level=REQUIRED, tier=SMOKE, source=f"{SPEC}.required", needs=NEEDS)
def shape(target: Target) -> None:
    """Logprobs have content and refusal, and each entry token, logprob, bytes and top_logprobs.

    The openai SDK's types promise these fields, so that reading them raises an error.
    """
    body = _ask(target, top_logprobs=2)
    for entry in _entries(body):
        _expect_token(entry, "top_logprobs")
        tops = objects(entry, "top_logprobs")
        expect(len(tops) == 2, f"{len(tops)} top_logprobs where 2 were asked for")
        for top in tops:
            _expect_token(top)
    absent = missing(pick(choice(body), dict, "logprobs"), "content", "refusal")
    fact = f"choices[].logprobs.{absent[0]} is missing" if absent else ""
    expect(not absent, f"the logprobs object has no {', '.join(absent)}", fact=fact)


@rule(
    "logprobs.length_matches_tokens",
    level=EXPECTED,
    tier=EXTENDED,
    source="openai-openapi: CreateChatCompletionRequest.logprobs: of each output token",
    needs=NEEDS,
)
def length_matches_tokens(target: Target) -> None:
    """There is one entry a completion token.

    Scores that are summed over a text miss tokens.
    """
    body = _ask(target)
    if choice(body).get("finish_reason") != "length":
        raise Unmeasured("the model stopped by itself; whether that token counts is open")
    if reasoning(body):
        raise Unmeasured("whether tokens of the reasoning have entries is open")
    count = usage(body, "completion_tokens")
    entries = _entries(body)
    expect(len(entries) == count, f"{len(entries)} entries for {count} completion tokens")


@rule(
    "logprobs.default_top_empty",
    level=EXPECTED,
    tier=EXTENDED,
    source="openai-openapi: CreateChatCompletionRequest.top_logprobs",
    needs=NEEDS,
)
def default_top_empty(target: Target) -> None:
    """Without top_logprobs the lists of alternatives are there and empty.

    Answers are many times larger than the client asked for.
    """
    counts = {len(pick(entry, list, "top_logprobs")) for entry in _entries(_ask(target))}
    expect(counts == {0}, f"top_logprobs was not asked for and has {sorted(counts)} entries")


@rule(
    "logprobs.top.requires_logprobs",
    level=EXPECTED,
    tier=EXTENDED,
    source="openai-openapi: CreateChatCompletionRequest.top_logprobs: logprobs must be true",
    needs=NEEDS,
)
def top_requires_logprobs(target: Target) -> None:
    """top_logprobs without logprobs is a 400.

    A program that forgot logprobs gets none, and nothing says so.
    """
    _ask(target, top_logprobs=2)
    rejected(target.chat(top_logprobs=2, max_tokens=2), "top_logprobs without logprobs")


@rule(
    "logprobs.top.max20",
    level=REQUIRED,
    tier=CORE,
    source="openai-openapi: CreateChatCompletionRequest.top_logprobs.maximum",
    needs=NEEDS,
)
def top_max20(target: Target) -> None:
    """More than 20 top_logprobs are a 400.

    A program that asks for more alternatives gets fewer, and nothing says so.
    """
    _ask(target, top_logprobs=2)
    reply = target.chat(logprobs=True, top_logprobs=21, max_tokens=2)
    if reply.ok:
        counts = [len(objects(entry, "top_logprobs")) for entry in _entries(reply.success())]
        expect_strict(set(counts) != {21}, "top_logprobs 21 was accepted, and 21 came")
    rejected(reply, "top_logprobs 21")


@rule(
    "logprobs.values",
    level=EXPECTED,
    tier=EXTENDED,
    source="openai-openapi: ChatCompletionTokenLogprob.logprob; vllm-project/vllm#9453; "
    "vllm-project/vllm#44319",
    needs=NEEDS,
)
def values(target: Target) -> None:
    """No logprob is above 0, alternatives are sorted, and the bytes join to the text.

    Probabilities above 1, or in the wrong order, make a wrong choice look best.
    """
    body = _ask(target, top_logprobs=3)
    entries = _entries(body)
    for entry in entries:
        tops = [pick(top, float, "logprob") for top in objects(entry, "top_logprobs")]
        highest = max([pick(entry, float, "logprob"), *tops])
        expect(highest <= _ROUNDING, f"a logprob of {highest} is a probability above 1")
        expect(tops == sorted(tops, reverse=True), f"top_logprobs are not sorted: {tops}")
    joined = b"".join(_bytes(entry) for entry in entries)
    written = content(body).encode()
    expect(joined == written, f"the bytes join to {joined!r}, the text is {written!r}")


def _ask(target: Target, **params: Any) -> dict[str, Any]:
    """An answer with logprobs; the check ends as ignored if there are none."""
    body = target.chat(logprobs=True, max_tokens=4, **params).success_or_refused()
    if not _entries_of(body):
        need_text(content(body))
    dropped = f"logprobs were accepted and dropped: {quote(body)}"
    expect_effect(choice(body).get("logprobs"), dropped, fact=LOGPROBS_DROPPED)
    return body


def _entries_of(body: dict[str, Any]) -> object:
    given = choice(body).get("logprobs")
    return given.get("content") if isinstance(given, dict) else given


def _entries(body: dict[str, Any]) -> list[dict[str, Any]]:
    return objects(choice(body), "logprobs", "content")


def _expect_token(entry: dict[str, Any], *more: str) -> None:
    absent = missing(entry, "token", "logprob", "bytes", *more)
    expect(not absent, f"an entry has no {', '.join(absent)}: {quote(entry)}")
    pick(entry, str, "token")
    pick(entry, float, "logprob")
    if entry["bytes"] is not None:
        pick(entry, list, "bytes")


def _bytes(entry: dict[str, Any]) -> bytes:
    """The bytes of a token; the token's text if it has none, which the schema allows."""
    given = entry.get("bytes")
    if given is None:
        return pick(entry, str, "token").encode()
    numbers = [pick(number, int) for number in pick(given, list)]
    expect(all(0 <= number < 256 for number in numbers), f"no bytes: {quote(entry)}")
    return bytes(numbers)
