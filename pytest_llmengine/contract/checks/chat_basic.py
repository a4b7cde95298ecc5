"""Checks of chat.basic: the body of a plain, whole answer."""

from __future__ import annotations

import re
from functools import partial
from math import ceil, log, sqrt
from string import digits
from typing import TYPE_CHECKING, TypeVar

from pytest_llmengine.contract.assertions import (
    choice,
    content,
    control,
    find_stop,
    full_text,
    message,
    missing,
    need_cut,
    pick,
)
from pytest_llmengine.contract.facts import LIMIT_NOT_KEPT, together
from pytest_llmengine.contract.outcomes import Unmeasured, expect, quote
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
    from pytest_llmengine.contract.samples import JSON
    from pytest_llmengine.contract.target import Target

T = TypeVar("T")

rule = partial(check, group="chat.basic")

SPEC = "openai-openapi: CreateChatCompletionResponse"
FINISH_REASONS = {"stop", "length", "tool_calls", "content_filter", "function_call"}
YEAR_2020, YEAR_2100 = 1_577_836_800, 4_102_444_800
EMOJI_PROMPT = "Repeat exactly: " + "\N{GRINNING FACE}" * 3


@rule("chat.basic.required_fields", level=REQUIRED, tier=SMOKE, source=f"{SPEC}.required")
def required_fields(target: Target) -> None:
    """A chat completion has id, object, created, model and choices.

    Typed SDKs raise a validation error or hand out None where the type says that there is a
    value.
    """
    body = target.chat().success()
    lost = missing(body, "id", "object", "created", "model", "choices")
    fact = together(f"{key} is missing" for key in lost)
    expect(not lost, f"missing: {', '.join(lost)}", fact=fact)


@rule("chat.basic.object_const", level=REQUIRED, tier=SMOKE, source=f"{SPEC}.object")
def object_const(target: Target) -> None:
    """The object of a chat completion is "chat.completion".

    Code that tells answers from chunks and errors by their object takes the wrong branch.
    """
    name = _field(target.chat(max_tokens=1).success(), str, "object")
    expect(name == "chat.completion", f"object is {name!r}")


@rule("chat.basic.id_unique", level=REQUIRED, tier=SMOKE, source=f"{SPEC}.id: unique identifier")
def id_unique(target: Target) -> None:
    """Chat completions have different ids: eight, or 96 if the ids have three digits or fewer.

    Logs, traces and caches that use the id as a key mix up two answers.
    """
    ids = [_id(target) for _ in range(8)]
    expect(all(ids), "an id is empty")
    enough = _enough_ids(ids)
    ids += [_id(target) for _ in range(enough - len(ids))]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    expect(twice is None, f"of {len(ids)} ids {twice!r} came twice")


@rule(
    "chat.basic.id_not_counted",
    level=QUIRK,
    tier=EXTENDED,
    source=f"{SPEC}.id: unique identifier",
    since="2026-11-27",
    breaks="After a restart, or behind two servers, logs that use the id as a key mix up answers.",
)
def id_not_counted(target: Target) -> None:
    """The ids differ in more than a short number, which soon repeats."""
    ids = [_id(target) for _ in range(4)]
    expect(len(set(ids)) > 1, f"each id is {quote(ids[0])}", fact="ids are not unique")
    counted = all(re.fullmatch("[0-9]{1,6}", number) for number in _ends(ids))
    expect(not counted, f"the ids are a short number: {quote(ids)}")


@rule("chat.basic.created_unix_int", level=REQUIRED, tier=CORE, source=f"{SPEC}.created")
def created_unix_int(target: Target) -> None:
    """The created time is a whole number of seconds since 1970.

    Clients that make a date of it raise an error, or show a date in another century.
    """
    created = _field(target.chat(max_tokens=1).success(), int, "created")
    expect(YEAR_2020 < created < YEAR_2100, f"created is {created}, which is not a time in seconds")


@rule("chat.basic.model_echo", level=EXPECTED, tier=EXTENDED, source=f"{SPEC}.model")
def model_echo(target: Target) -> None:
    """The answer names the model that was asked for, or a dated version of it.

    Usage and cost are booked on a model that the client did not ask for.
    """
    body = target.chat(max_tokens=1).success()
    choice(body)  # a server that only echoes the request names the model too
    model = _field(body, str, "model")
    same = model == target.model or model.startswith(f"{target.model}-")
    expect(same, f"asked for {target.model!r}, the answer says {model!r}")


@rule("chat.choice.required", level=REQUIRED, tier=CORE, source=f"{SPEC}.choices[].required")
def choice_required(target: Target) -> None:
    """A choice has index, message, finish_reason and logprobs, null where there are none.

    SDK models give None for a key that their type declares as present, and strict parsers
    reject the answer.
    """
    lost = missing(choice(target.chat().success()), "index", "message", "finish_reason", "logprobs")
    fact = together(f"choices[].{key} is missing" for key in lost)
    expect(not lost, f"missing in a choice: {', '.join(lost)}", fact=fact)


@rule(
    "chat.message.required",
    level=REQUIRED,
    tier=CORE,
    source="openai-openapi: ChatCompletionResponseMessage.required",
)
def message_required(target: Target) -> None:
    """A message has role, content and refusal, null where there is none.

    Code that reads message.refusal to tell a refusal from an answer raises a KeyError.
    """
    lost = missing(message(target.chat().success()), "role", "content", "refusal")
    fact = together(f"choices[].message.{key} is missing" for key in lost)
    expect(not lost, f"missing in the message: {', '.join(lost)}", fact=fact)


@rule(
    "chat.message.content_nullable",
    level=REQUIRED,
    tier=SMOKE,
    source="openai-openapi: ChatCompletionResponseMessage.content",
)
def content_nullable(target: Target) -> None:
    """The answer comes from the assistant, and its content is a string or null.

    Code that joins or parses the content raises a TypeError.
    """
    found = message(target.chat().success())
    role = pick(found, str, "role")
    expect(role == "assistant", f"the role is {role!r}")
    expect("content" in found, "the message has no content")
    text = found["content"]
    expect(text is None or isinstance(text, str), f"the content is {quote(text)}")


@rule(
    "chat.finish_reason.enum", level=REQUIRED, tier=SMOKE, source=f"{SPEC}.choices[].finish_reason"
)
def finish_reason_enum(target: Target) -> None:
    """The finish_reason is one of the five that the schema knows, whatever ended the answer.

    A client that handles each known reason treats the answer as an error, or as complete when
    it is not.
    """
    for cap in (1, 24):
        reason = choice(target.chat(max_tokens=cap).success()).get("finish_reason")
        expect(reason in FINISH_REASONS, f"finish_reason is {quote(reason)} at {cap} tokens")


@rule(
    "chat.finish_reason.length",
    level=EXPECTED,
    tier=SMOKE,
    source="openai-openapi: CreateChatCompletionResponse.choices[].finish_reason: length "
    "if the maximum number of tokens was reached",
)
def finish_reason_length(target: Target) -> None:
    """An answer that the token cap cut has the finish_reason "length".

    A cut answer is taken for a complete one.
    """
    body = target.chat("Count from one to fifty in words.", max_tokens=3).success()
    reason = choice(body).get("finish_reason")
    count = (body.get("usage") or {}).get("completion_tokens")
    if reason == "stop":
        need_cut(full_text(body), 3, count)
    expect(
        reason == "length",
        f"finish_reason is {quote(reason)} after {full_text(body)!r}",
        fact=LIMIT_NOT_KEPT if isinstance(count, int) and count > 3 else "",
    )


@rule(
    "chat.finish_reason.stop_seq",
    level=EXPECTED,
    tier=EXTENDED,
    source="openai-openapi: CreateChatCompletionResponse.choices[].finish_reason: stop for"
    " a provided stop sequence",
)
def finish_reason_stop_seq(target: Target) -> None:
    """An answer that a stop sequence ended has the finish_reason "stop".

    A client cannot tell an answer that reached its end from one that was cut.
    """
    stopping = find_stop(target)
    reason = choice(stopping.stop(target, stopping.word, may_keep=True)).get("finish_reason")
    expect(reason == "stop", f"finish_reason is {quote(reason)} at stop={stopping.word!r}")


@rule("chat.system_fingerprint", level=OPTIONAL, tier=EXTENDED, source=f"{SPEC}.system_fingerprint")
def system_fingerprint(target: Target) -> None:
    """The system_fingerprint, where there is one, is a string.

    Typed SDKs reject the answer, and a change of the back-end cannot be noticed.
    """
    body = target.chat(max_tokens=1).success()
    choice(body)
    if "system_fingerprint" in body:
        pick(body, str, "system_fingerprint")


@rule(
    "chat.unknown_field.tolerated",
    level=QUIRK,
    tier=EXTENDED,
    source="OpenAI docs: guides/error-codes: OpenAI answers 400 in words; RFC 9110 15.6: "
    "5xx is the server's own fault",
)
def unknown_field(target: Target) -> None:
    """A field that no server knows is passed over, or turned down in words.

    A client that is newer than the server crashes it with a field that the server does not
    know.
    """
    control(target)
    reply = target.chat(max_tokens=1, llmengine_unknown_field=1)
    if reply.status == 400:
        expect(reply.error_message, f"400 without a message: {quote(reply.text)}")
    else:
        full_text(reply.success())


@rule(
    "chat.nonstream.utf8.cap",
    level=QUIRK,
    tier=EXTENDED,
    source="RFC 8259 8.1: JSON is UTF-8",
)
def utf8_cap(target: Target) -> None:
    """A token cap inside a character leaves no broken character in the text.

    Users see a replacement character, and the lost bytes cannot be had again.
    """
    texts = [content(target.chat(EMOJI_PROMPT, max_tokens=cap).success()) for cap in (1, 2, 3, 8)]
    for text in texts:
        expect("\ufffd" not in text, f"U+FFFD in {text!r}")
    if all(text.isascii() for text in texts):
        raise Unmeasured(f"no answer has a character of several bytes: {texts[-1]!r}")


def _field(body: JSON, kind: type[T], key: str) -> T:
    """A field of a chat completion; each rule about one that is missing has the same cause."""
    expect(key in body, f"{key} is missing: {quote(body)}", fact=f"{key} is missing")
    return pick(body, kind, key)


def _id(target: Target) -> str:
    return _field(target.chat(max_tokens=1).success(), str, "id")


def _enough_ids(ids: list[str]) -> int:
    """How many ids a server must give to show that it draws them from a thousand or fewer.

    By the birthday problem, one comes twice with a probability of 99%. Ids that are counted, and
    those with more digits, are enough as they are.
    """
    numbers = _ends(ids)
    if not all(re.fullmatch("[0-9]{1,3}", number) for number in numbers):
        return len(ids)
    if numbers == sorted(set(numbers), key=int):
        return len(ids)
    return ceil(sqrt(2 * 10 ** max(map(len, numbers)) * log(100)))


def _ends(ids: list[str]) -> list[str]:
    """The ids without what they share before the number at the end."""
    prefix = ids[0].rstrip(digits)
    return [name.removeprefix(prefix) for name in ids]
