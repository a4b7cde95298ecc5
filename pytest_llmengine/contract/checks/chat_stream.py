"""Checks of chat.stream: the events of a streamed answer."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import (
    Chunks,
    choices,
    chunks_of,
    content,
    deltas,
    finish_reasons,
    need_cut,
    need_text,
    pick,
    stream_chat,
    text,
)
from pytest_llmengine.contract.facts import LOGPROBS_DROPPED, N_DROPPED, REFUSED_IN_STREAM, either
from pytest_llmengine.contract.outcomes import (
    Ignored,
    Unmeasured,
    expect,
    expect_effect,
    fail,
    quote,
)
from pytest_llmengine.contract.registry import (
    CORE,
    EXPECTED,
    EXTENDED,
    OPTIONAL,
    QUIRK,
    REQUIRED,
    SMOKE,
    check,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="chat.stream")

SPEC = "openai-openapi: CreateChatCompletionStreamResponse"
NEEDS = {Capability.STREAMING}
COUNT = "Count from 1 to 300."
CAP = 6
SAMPLED: dict[str, Any] = {"temperature": 0.8, "seed": 7, "max_tokens": CAP}
LONG = "Write a long story about the sea."  # takes more than a second
_TEXT = re.compile(rb'"content":\s*"[^"]')


@rule(
    "chat.stream.content_type",
    level=REQUIRED,
    tier=SMOKE,
    source="openai-openapi: /chat/completions 200 text/event-stream",
    needs=NEEDS,
)
def content_type(target: Target) -> None:
    """A streamed answer has the content type text/event-stream.

    SSE clients and proxies do not recognise the stream, and buffer or reject it.
    """
    reply = target.chat(stream=True, max_tokens=4)
    chunks_of(reply)
    expect(
        reply.content_type == "text/event-stream",
        f"the content type is {reply.content_type!r}",
    )


@rule(
    "chat.stream.done_sentinel",
    level=REQUIRED,
    tier=SMOKE,
    source=f"{SPEC}: the stream is terminated by a data: [DONE] message",
    needs=NEEDS,
)
def done_sentinel(target: Target) -> None:
    """A stream ends with exactly one [DONE], and nothing comes after it.

    Clients that wait for [DONE] hang or report a broken stream.
    """
    reply = target.chat(stream=True, max_tokens=4)
    chunks_of(reply)
    data = [event.data for event in reply.events]
    expect(data.count("[DONE]") == 1, f"[DONE] came {data.count('[DONE]')} times")
    expect(data[-1] == "[DONE]", f"after [DONE] came {quote(data[-1])}")


@rule(
    "chat.stream.object_const",
    level=REQUIRED,
    tier=CORE,
    source=f"{SPEC}.object",
    needs=NEEDS,
)
def object_const(target: Target) -> None:
    """Every chunk's object is "chat.completion.chunk".

    Code that tells chunks from whole answers by their object takes the wrong branch.
    """
    kinds = {chunk.get("object") for chunk in stream_chat(target, max_tokens=4)}
    expect(kinds == {"chat.completion.chunk"}, f"object is {quote(list(kinds))}")


@rule("chat.stream.id_constant", level=REQUIRED, tier=CORE, source=f"{SPEC}.id", needs=NEEDS)
def id_constant(target: Target) -> None:
    """Every chunk of a stream has the same id.

    Clients that join chunks by their id split one answer into several.
    """
    ids = {pick(chunk, str, "id") for chunk in stream_chat(target, max_tokens=8)}
    expect(len(ids) == 1 and "" not in ids, f"ids in one stream: {', '.join(sorted(ids))!r}")


@rule(
    "chat.stream.created_constant",
    level=REQUIRED,
    tier=CORE,
    source=f"{SPEC}.created: each chunk has the same timestamp",
    needs=NEEDS,
)
def created_constant(target: Target) -> None:
    """Every chunk of a stream has the same created, also when the stream lasts for seconds.

    Clients that join chunks by id and time split one answer into several.
    """
    chunks = stream_chat(target, LONG, max_tokens=200)
    values = sorted({pick(chunk, int, "created") for chunk in chunks})
    expect(len(values) == 1, f"created changes in one stream: {values}")


@rule(
    "chat.stream.role_first_only",
    level=REQUIRED,
    tier=CORE,
    source="openai-openapi: ChatCompletionStreamResponseDelta.role",
    needs=NEEDS,
)
def role_first_only(target: Target) -> None:
    """The first delta has the role assistant, and no later one has a role.

    Clients that add up deltas, as the openai SDK's accumulator does, get a role such as
    assistantassistant.
    """
    roles = [delta.get("role") for delta in deltas(stream_chat(target, max_tokens=8))]
    expect(roles[0] == "assistant", f"the first delta's role is {roles[0]!r}")
    again = [role for role in roles[1:] if role is not None]
    expect(not again, f"{len(again)} later deltas have a role: {quote(again)}")


@rule(
    "chat.stream.finish_once",
    level=REQUIRED,
    tier=SMOKE,
    source=f"{SPEC}.choices.finish_reason",
    needs=NEEDS,
)
def finish_once(target: Target) -> None:
    """A choice has exactly one finish reason, in its last chunk.

    A client cannot tell a complete stream from one that broke, or stops reading too early.
    """
    entries = choices(stream_chat(target, max_tokens=8))
    reasons = [entry.get("finish_reason") for entry in entries]
    given = [reason for reason in reasons if reason is not None]
    expect(len(given) == 1, f"{len(given)} finish reasons in one choice: {quote(given)}")
    expect(reasons[-1] is not None, f"after the finish reason came {quote(entries[-1])}")


@rule(
    "chat.stream.finish_empty_delta",
    level=EXPECTED,
    tier=EXTENDED,
    source="openai-openapi: ChatCompletionStreamResponseDelta: OpenAI observed, the chunk "
    "with the finish reason has an empty delta",
    needs=NEEDS,
)
def finish_empty_delta(target: Target) -> None:
    """The chunk with the finish reason carries nothing else.

    Clients that stop at the finish reason lose the text in the same chunk.
    """
    # The token cap must cut the answer: a stop token has no text to send with the finish reason.
    entries = choices(stream_chat(target, COUNT, max_tokens=8))
    last = [entry for entry in entries if entry.get("finish_reason") is not None]
    if not last:
        fail(f"no finish reason in {len(entries)} chunks")
    filled = {k: v for k, v in pick(last[-1], dict, "delta").items() if v not in (None, "", [])}
    expect(not filled, f"the delta beside the finish reason holds {quote(filled)}")


@rule(
    "chat.stream.concat_equals_nonstream",
    level=QUIRK,
    tier=EXTENDED,
    source="openai-openapi: CreateChatCompletionStreamResponse: a streamed chunk of the response",
    needs=NEEDS,
)
def concat_equals_nonstream(target: Target) -> None:
    """At temperature 0 the streamed text is the text of the whole answer.

    Text is lost or doubled for users who watch it arrive.
    """
    whole = need_text(content(target.chat(max_tokens=12).success()))
    streamed = text(stream_chat(target, max_tokens=12))
    if streamed != whole and content(target.chat(max_tokens=12).success()) != whole:
        raise Unmeasured("the server answers differently each time, also at temperature 0")
    expect(streamed == whole, f"streamed {streamed!r}, whole {whole!r}")


@rule(
    "chat.stream.incremental",
    level=QUIRK,
    tier=EXTENDED,
    source="openai-openapi: CreateChatCompletionRequest.stream: data is streamed as it is "
    "generated",
    needs=NEEDS,
    timing=True,
)
def incremental(target: Target) -> None:
    """Text arrives in several deliveries, not all at the end.

    Users look at nothing until the whole answer is ready.
    """
    target.need_clock()
    deliveries = [_deliveries(target) for _ in range(3)]
    expect(max(deliveries) > 1, "all text came in one delivery, three times out of three")


def _deliveries(target: Target) -> int:
    """The number of reads of one stream that delivered text."""
    reply = target.chat(COUNT, stream=True, max_tokens=16)
    chunks_of(reply)
    return sum(bool(_TEXT.search(chunk.data)) for chunk in reply.chunks)


@rule(
    "chat.stream.n_interleaved",
    level=REQUIRED,
    tier=CORE,
    source=f"{SPEC}.choices.index",
    needs=NEEDS | {Capability.N},
)
def n_interleaved(target: Target) -> None:
    """With n=2 the index says which choice a delta belongs to, and each choice ends.

    The texts of several choices are joined into one.
    """
    chunks = stream_chat(target, n=2, **SAMPLED)
    indexes = {pick(entry, int, "index") for chunk in chunks for entry in chunk["choices"]}
    if indexes == {0}:
        joined = f"n=2 was accepted, and the texts of several choices are joined: {text(chunks)!r}"
        expect(not _has_several_choices(target, chunks), joined)
        raise Ignored("n=2 was accepted and one choice came", fact=N_DROPPED)
    expect(indexes == {0, 1}, f"indexes {sorted(indexes)} instead of 0 and 1")
    for index in (0, 1):
        reasons = finish_reasons(chunks, index)
        expect(len(reasons) == 1, f"choice {index} has the finish reasons {reasons}")
    texts = [text(chunks, index) for index in (0, 1)]
    need_text("".join(texts))
    expect(all(texts), f"a choice has no text: {quote(texts)}")


def _has_several_choices(target: Target, chunks: Chunks) -> bool:
    """Whether the chunks of one index end twice, or have more texts than the token cap allows.

    A server that sends a token in several chunks does so for a single choice too.
    """
    if len(finish_reasons(chunks)) > 1:
        return True
    return _pieces(chunks) > CAP and _pieces(stream_chat(target, **SAMPLED)) <= CAP


def _pieces(chunks: Chunks) -> int:
    """The number of chunks that have a text."""
    return sum(bool(delta.get("content")) for delta in deltas(chunks))


@rule(
    "chat.stream.logprobs",
    level=OPTIONAL,
    tier=EXTENDED,
    source=f"{SPEC}.choices.logprobs",
    needs=NEEDS | {Capability.LOGPROBS},
)
def stream_logprobs(target: Target) -> None:
    """Logprobs come with the chunks, and their tokens join to the text.

    Confidence scores are missing for streamed answers.
    """
    chunks = stream_chat(target, logprobs=True, top_logprobs=1, max_tokens=4)
    given = [entry["logprobs"] for entry in choices(chunks) if entry.get("logprobs")]
    dropped = "logprobs were accepted and no chunk has any"
    answer = need_text(text(chunks))  # without a text, the tokens may be those of the reasoning
    expect_effect(given, dropped, fact=LOGPROBS_DROPPED)
    tokens = [pick(t, str, "token") for part in given for t in pick(part, list, "content")]
    expect("".join(tokens) == answer, f"tokens {quote(tokens)}, text {answer!r}")


@rule(
    "chat.stream.x_accel",
    level=QUIRK,
    tier=EXTENDED,
    source="nginx: ngx_http_proxy_module#proxy_buffering: X-Accel-Buffering: no disables it",
    needs=NEEDS,
)
def x_accel(target: Target) -> None:
    """A stream tells proxies not to buffer or cache it.

    Behind nginx, users look at nothing until the whole answer is ready.
    """
    reply = target.chat(stream=True, max_tokens=4)
    chunks_of(reply)
    buffering = str(reply.headers.get("x-accel-buffering", "")).lower()
    caching = str(reply.headers.get("cache-control", "")).lower()
    expect(
        buffering == "no" or "no-cache" in caching or "no-store" in caching,
        f"X-Accel-Buffering is {buffering!r} and Cache-Control {caching!r}",
    )


@rule(
    "chat.stream.error.before_first_byte",
    level=EXPECTED,
    tier=EXTENDED,
    source="OpenAI docs: guides/error-codes",
    needs=NEEDS,
)
def error_before_first_byte(target: Target) -> None:
    """Bad input of a streamed call is a 400 in JSON, not a 200 with an error in the stream.

    SDKs raise no error for the status, and parse the error as a chunk.
    """
    stream_chat(target, max_tokens=1)
    reply = target.chat(stream=True, temperature="hot")
    expect_effect(
        not reply.ok or "error" in reply.text,
        f"temperature 'hot' was accepted in a stream: {quote(reply.text)}",
        fact=either("temperature='hot' is accepted", "temperature is dropped"),
    )
    reply.expect_judged()
    other = f"{reply.status} instead of 400: {quote(reply.text)}"
    fact = REFUSED_IN_STREAM if reply.stream_error else ""
    expect(reply.status in {400, 422}, other, fact=fact)
    expect(reply.content_type == "application/json", f"an error of type {reply.content_type!r}")
    expect(reply.error_message, f"a 400 without a message: {quote(reply.text)}")


@rule(
    "chat.stream.truncation_detectable",
    level=QUIRK,
    tier=CORE,
    source="pydantic/pydantic-ai#6610",
    needs=NEEDS,
)
def truncation_detectable(target: Target) -> None:
    """A stream that the token cap cuts says so with the finish reason length.

    Half an answer is stored as a whole one.
    """
    chunks = stream_chat(target, COUNT, max_tokens=4)
    reasons = finish_reasons(chunks)
    expect(reasons, f"no finish reason; the text ends with {text(chunks)[-40:]!r}")
    if len(text(chunks)) > 80:
        raise Unmeasured(f"the token cap of 4 did not cut: {text(chunks)!r}")
    if reasons == ["stop"]:
        need_cut(text(chunks), 4)
    expect(reasons == ["length"], f"the finish reasons are {reasons} at a token cap of 4")
