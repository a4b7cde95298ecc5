"""Checks of err: errors have the envelope that clients read."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.assertions import (
    NO_JSON,
    NO_MESSAGES,
    control,
    envelope,
    missing,
    pick,
    provoke,
    rejected,
    usage,
)
from pytest_llmengine.contract.facts import (
    CODE_IS_NUMBER,
    CODE_MISSING,
    NAME_IGNORED,
    either,
    together,
    unknown_model_fact,
)
from pytest_llmengine.contract.outcomes import Unmeasured, expect, expect_effect, quote
from pytest_llmengine.contract.registry import (
    CORE,
    EXPECTED,
    EXTENDED,
    QUIRK,
    REQUIRED,
    SMOKE,
    check,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="err")

SPEC = "openai-openapi: Error"
CHAT = "/chat/completions"
NO_PATH = "/no/such/path"


@rule("err.shape", level=REQUIRED, tier=SMOKE, source=f"{SPEC}.required; vllm-project/vllm#12886")
def shape(target: Target) -> None:
    """An error is an object "error" with message, type, param and code.

    SDKs show an empty message, and code that reads error.code or error.param raises an error of
    its own.
    """
    for what, reply in provoke(target).items():
        error = envelope(reply, what)
        lost = missing(error, "message", "type", "param", "code")
        expect(
            not lost,
            f"{what}: missing in the error: {', '.join(lost)}",
            fact=together(f"error.{key} is missing" for key in lost),
        )
        expect(pick(error, str, "message"), f"{what}: the message is empty")
        pick(error, str, "type")
        expect(
            error["param"] is None or isinstance(error["param"], str),
            f"{what}: param is {quote(error['param'])}",
        )


@rule("err.code_string_or_null", level=REQUIRED, tier=CORE, source=f"{SPEC}.code")
def code_string_or_null(target: Target) -> None:
    """The code of an error is a string or null.

    Code that compares the code with a string never matches.
    """
    for what, reply in provoke(target).items():
        error = envelope(reply, what)
        expect("code" in error, f"{what}: the error has no code", fact=CODE_MISSING)
        code = error["code"]
        wrong = f"{what}: code is {_shown(code)}"
        expect(code is None or isinstance(code, str), wrong, fact=_fact_of(error))


@rule(
    "err.type_values",
    level=EXPECTED,
    tier=EXTENDED,
    source="openai-openapi: Error.type; OpenAI docs: guides/error-codes",
)
def type_values(target: Target) -> None:
    """A client's error has the type "invalid_request_error".

    Code that decides by the type whether to retry decides wrongly.
    """
    reply = provoke(target).get(NO_MESSAGES)
    if reply is None:
        raise Unmeasured(f"{NO_MESSAGES} is answered with a 5xx, which other rules are about")
    kind = envelope(reply, NO_MESSAGES).get("type")
    expect(kind == "invalid_request_error", f"{NO_MESSAGES}: type is {quote(kind)}")


@rule(
    "err.status",
    level=EXPECTED,
    tier=CORE,
    source="OpenAI docs: guides/error-codes; openai-python 3.3.1: "
    "src/openai/_exceptions.py: BadRequestError is a 400",
    since="2026-11-27",
)
def status(target: Target) -> None:
    """A request that is not valid is answered with 400.

    A program that catches the SDK's BadRequestError does not catch a 422.
    """
    control(target)
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"messages": ...}, f"{NO_MESSAGES} is accepted"),
        ({"temperature": "hot"}, either("temperature='hot' is accepted", "temperature is dropped")),
    )
    for params, accepted in wrong:
        what = f"a request with {', '.join(params)} not valid"
        reply = target.chat(**{"max_tokens": 1} | params)
        answered = f"{what} was answered with 200: {quote(reply.text)}"
        expect_effect(not reply.ok, answered, fact=accepted)
        other = f"{what}: {reply.status} instead of 400: {quote(reply.text)}"
        expect(reply.status == 400, other, fact=reply.cause)


@rule(
    "err.content_type_json",
    level=QUIRK,
    tier=EXTENDED,
    source="RFC 9110 8.3; openai-python 3.3.1: src/openai/_base_client.py: parses the body"
    " of an error",
)
def content_type_json(target: Target) -> None:
    """Every error is JSON, and says so.

    SDKs that parse the body by its content type show no message.
    """
    for what, reply in provoke(target).items():
        kind = reply.content_type
        expect(kind == "application/json", f"{what}: the content type is {kind!r}")
        reply.object()


@rule(
    "err.malformed_json",
    level=EXPECTED,
    tier=EXTENDED,
    source="RFC 9110 15.5.1; OpenAI docs: guides/error-codes",
)
def malformed_json(target: Target) -> None:
    """A body that is not JSON is rejected.

    A request that was cut on its way is answered as if it were whole, or is retried for ever.
    """
    control(target)
    cut = target.post(CHAT, raw=b'{"model": ')
    rejected(cut, 'the body {"model": ', fact=f"{NO_JSON} is accepted")


@rule(
    "err.nonobject_body",
    level=EXPECTED,
    tier=EXTENDED,
    source="RFC 9110 15.5.1; OpenAI docs: guides/error-codes",
)
def nonobject_body(target: Target) -> None:
    """A body that is JSON, but no object, is rejected.

    A client's bug looks like a broken server and is retried.
    """
    control(target)
    for raw in (b"[]", b'"hello"', b"null"):
        rejected(target.post(CHAT, raw=raw), f"the body {raw.decode()}")


@rule(
    "err.unknown_model",
    level=EXPECTED,
    tier=SMOKE,
    source="OpenAI docs: guides/error-codes: 404 model_not_found; sgl-project/sglang#31404",
)
def unknown_model(target: Target) -> None:
    """A model that is not served is answered with 404 and the code "model_not_found".

    A misspelt model is answered by another one, and the program never learns it.
    """
    control(target)
    reply = target.chat(model="no-such-model", max_tokens=1)
    answered = f"no-such-model answered 200: {quote(reply.text)}"
    expect_effect(not reply.ok, answered, fact=NAME_IGNORED)
    other = f"no-such-model: {reply.status}: {quote(reply.text)}"
    expect(reply.status == 404, other, fact=unknown_model_fact(reply.status))
    error = envelope(reply, "no-such-model")
    code = error.get("code")
    said = "without a code" if code is None else f"with the code {_shown(code)}"
    expect(code == "model_not_found", f"no-such-model: 404 {said}", fact=_fact_of(error))


@rule(
    "err.context_overflow",
    level=EXPECTED,
    tier=EXTENDED,
    heavy=True,
    source="OpenAI docs: guides/error-codes: 400 context_length_exceeded; ollama/ollama#4967",
)
def context_overflow(target: Target) -> None:
    """A prompt that is longer than the context is rejected, never cut, with a code that says so.

    The model answers a prompt of which it saw only a part, or the client cannot tell why it was
    refused.
    """
    control(target)
    for words in (20_000, 200_000):
        reply = target.chat("a " * words, max_tokens=1)
        if not reply.ok:
            _expect_overflow(reply, words)
            return
        read = usage(reply.success(), "prompt_tokens")
        expect_effect(read >= words, f"of {words} words {read} tokens were read, the rest was cut")
    raise Unmeasured("the context holds 200000 words")


@rule(
    "err.wrong_content_type",
    level=QUIRK,
    tier=EXTENDED,
    source="RFC 9110 15.5.16: 415 for a type that is not supported",
)
def wrong_content_type(target: Target) -> None:
    """A body that is not said to be JSON is rejected with 415 or 400.

    A web page of another site can send requests without the browser's preflight check.
    """
    control(target)
    reply = target.post(CHAT, _good(target), headers={"Content-Type": "text/plain"})
    expect_effect(not reply.ok, "a body of type text/plain was read as JSON")
    expect(reply.status in {400, 415}, f"text/plain: {reply.status}: {quote(reply.text)}")
    expect(reply.error_message, f"text/plain: {reply.status} without a message")


@rule("err.not_found_path", level=QUIRK, tier=EXTENDED, source="RFC 9110 15.5.5: 404")
def not_found_path(target: Target) -> None:
    """A path that does not exist is answered with 404, in words.

    A wrong base URL looks like a server that works.
    """
    control(target)
    _expect_status(target.get(NO_PATH), 404)


@rule("err.method", level=QUIRK, tier=EXTENDED, source="RFC 9110 15.5.6: 405")
def method(target: Target) -> None:
    """A method that the path does not know is answered with 405, in words.

    A wrong method looks like a server that works.
    """
    control(target)
    _expect_status(target.send("DELETE", CHAT), 405)


@rule(
    "err.routes_json",
    level=QUIRK,
    tier=EXTENDED,
    source="openai-openapi: ErrorResponse",
    since="2026-11-27",
)
def routes_json(target: Target) -> None:
    """The error of an unknown path or method has the envelope of the other errors.

    A client that reads the error's message shows the user an error of its JSON parser instead.
    """
    control(target)
    for reply in (target.get(NO_PATH), target.send("DELETE", CHAT)):
        what = f"{reply.method} {reply.path}"
        expect_effect(not reply.ok, f"{what} was answered with 200")
        reply.expect_judged()
        pick(envelope(reply, what), str, "message")


def _expect_status(reply: Reply, status: int) -> None:
    """Expect a status with words, in an envelope or as plain text."""
    what = f"{reply.method} {reply.path}"
    expect_effect(not reply.ok, f"{what} was answered with 200")
    expect(reply.status == status, f"{what}: {reply.status} instead of {status}")
    is_json = reply.content_type == "application/json"
    words = reply.error_message if is_json else reply.text.strip()
    expect(words, f"{what}: {status} without a message: {quote(reply.text)}")


def _expect_overflow(reply: Reply, words: int) -> None:
    what = f"a prompt of {words} words"
    rejected(reply, what)
    error = envelope(reply, what)
    code = error.get("code")
    shown = f"{what}: {reply.status} with the code {_shown(code)}: {quote(reply.error_message)}"
    expect(code == "context_length_exceeded", shown, fact=_fact_of(error))


def _shown(code: object) -> str:
    """A code for a reason; a number has no quotes, so that it does not look like a string."""
    return str(code) if _is_number(code) else quote(code)


def _fact_of(error: dict[str, Any]) -> str:
    """The cause of a wrong code, if codes are wrong in general."""
    if "code" not in error:
        return CODE_MISSING
    return CODE_IS_NUMBER if _is_number(error["code"]) else ""


def _is_number(code: object) -> bool:
    return isinstance(code, int) and not isinstance(code, bool)


def _good(target: Target) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Say hello."}]
    return {"model": target.model, "messages": messages, "max_tokens": 1, "temperature": 0}
