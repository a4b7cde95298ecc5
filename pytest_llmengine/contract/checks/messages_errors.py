"""Checks of messages.errors: what is refused, and the form of an error."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_llmengine.contract.assertions import NO_JSON, pick, rejected
from pytest_llmengine.contract.facts import (
    NAME_IGNORED,
    ROLE_DROPPED,
    TOKENS_BELOW_1,
    UNKNOWN_CHOICE,
    UNKNOWN_TOOL,
    unknown_model_fact,
)
from pytest_llmengine.contract.messages_api import (
    DOCS,
    NEWEST,
    SOON,
    TIME,
    VERSION,
    WEATHER,
    ask,
    blocks,
    prompt_tokens,
    results,
    rule,
    send,
    text,
    usage_of,
    user,
)
from pytest_llmengine.contract.outcomes import (
    Unmeasured,
    expect,
    expect_effect,
    expect_strict,
    quote,
)
from pytest_llmengine.contract.registry import CORE, EXPECTED, EXTENDED, REQUIRED, Level

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.samples import JSON
    from pytest_llmengine.contract.target import Target

rule = partial(rule, group="messages.errors")

ERRORS = "anthropic-docs: api/errors"
NOTHING_REFUSED = "the server refuses neither a body that is not JSON nor a wrong type"
TYPES = (
    *("invalid_request_error", "authentication_error", "billing_error", "permission_error"),
    *("not_found_error", "request_too_large", "rate_limit_error", "timeout_error"),
    *("overloaded_error", "api_error"),
)


class Rejection(NamedTuple):
    """A request that must be refused, beside a valid one.

    ``what`` names the fault. ``done`` says whether an answer shows that the server has done what
    was asked, so that it is lenient; it gets the answer and that to the valid request. ``fact`` is
    the cause of an answer that several rows share.
    """

    name: str
    what: str
    breaks: str
    bad: dict[str, Any]
    good: dict[str, Any] = {}  # noqa: RUF012 - never changed
    level: Level = REQUIRED
    done: Callable[[Reply, JSON], bool] | None = None
    fact: str = ""


_LOST = "The model answers another prompt than the one that was sent, and nothing says so."
_UNSEEN = "A mistake in a program is not noticed before it meets another server."
_TYPO = "A parameter with a mistake has no effect, and the program seems to work."
_TYPES_UNCHECKED = "/messages: the types of fields are not checked"
_VERSION_UNREAD = "the header anthropic-version is not read"
_TYPES_CONVERTED = "/messages: values of a wrong type are converted"
_FIVE = "5"
_CALL = results("sunny")
_TOOLS = {"tools": [WEATHER]}


def _is_answer(reply: Reply, _: JSON) -> bool:
    """True for a message; the check fails for anything else."""
    blocks(reply.success())
    return True


def _reads_as_much(reply: Reply, plain: JSON) -> bool:
    """Whether the prompt is not smaller, so that the message with the unknown role was read."""
    return prompt_tokens(reply.success()) >= prompt_tokens(plain)


def _is_cut_at_five(reply: Reply, _: JSON) -> bool:
    """Whether the limit was read as a number; unmeasured if the answer is shorter by itself."""
    body = reply.success()
    tokens = pick(usage_of(body), int, "output_tokens")
    if tokens <= int(_FIVE) and body.get("stop_reason") != "max_tokens":
        raise Unmeasured(f"this model cannot show it: its whole answer is {quote(text(body))}")
    return tokens <= int(_FIVE)


def _is_stream(reply: Reply, _: JSON) -> bool:
    return bool(reply.events)


REJECTIONS = (
    Rejection(
        "max_tokens.required",
        "a request without max_tokens",
        _UNSEEN,
        {"max_tokens": ..., "stop_sequences": SOON},
        done=_is_answer,
    ),
    Rejection(
        "max_tokens.range",
        "max_tokens=-1",
        "A limit that a program has computed wrongly means no limit.",
        {"max_tokens": -1, "stop_sequences": SOON},
        fact=TOKENS_BELOW_1,
    ),
    Rejection(
        "model.required", "a request without a model", _UNSEEN, {"model": ...}, done=_is_answer
    ),
    Rejection("messages.required", "a request without messages", _LOST, {"messages": ...}),
    Rejection("messages.min1", "an empty list of messages", _LOST, {"messages": []}),
    Rejection(
        "messages.type",
        "messages that are a string",
        _LOST,
        {"messages": "Say hello."},
        fact=_TYPES_UNCHECKED,
    ),
    Rejection(
        "roles.unknown",
        "the role wizard",
        _LOST,
        {"messages": [{"role": "wizard", "content": "Say hello."}]},
        done=_reads_as_much,
        fact=ROLE_DROPPED,
    ),
    Rejection(
        "content.type",
        "a content that is a number",
        _LOST,
        {"messages": user(7)},
        fact=_TYPES_UNCHECKED,
    ),
    Rejection(
        "content.unknown_block",
        "a block of an unknown type",
        _LOST,
        {"messages": user([{"type": "hologram", "data": "x"}])},
    ),
    Rejection(
        "content.block_fields",
        "a text block without a text",
        _LOST,
        {"messages": user([{"type": "text"}])},
    ),
    Rejection(
        "system.type",
        "a system prompt that is a number",
        _LOST,
        {"system": 7},
        fact=_TYPES_UNCHECKED,
    ),
    Rejection(
        "tool_result.orphan",
        "a tool_result without its tool_use",
        _UNSEEN,
        {"messages": [_CALL[0], _CALL[2]], **_TOOLS},
        {"messages": _CALL, **_TOOLS},
        EXPECTED,
        done=_is_answer,
    ),
    Rejection(
        "tool_use.unanswered",
        "a tool_use without its tool_result",
        _UNSEEN,
        {"messages": [*_CALL[:2], *user("Say hello.")], **_TOOLS},
        {"messages": _CALL, **_TOOLS},
        EXPECTED,
        done=_is_answer,
    ),
    Rejection(
        "tools.input_schema",
        "a tool without an input_schema",
        "The model calls the tool with any arguments.",
        {"tools": [{"name": "get_time"}]},
        _TOOLS,
        done=_is_answer,
    ),
    Rejection(
        "tool_choice.unknown_type",
        "a tool_choice of the type sometimes",
        _TYPO,
        {**_TOOLS, "tool_choice": {"type": "sometimes"}},
        _TOOLS,
        fact=UNKNOWN_CHOICE,
    ),
    Rejection(
        "tool_choice.unknown_tool",
        "a tool_choice that names no tool of the request",
        _TYPO,
        {**_TOOLS, "tool_choice": {"type": "tool", "name": TIME["name"]}},
        _TOOLS,
        EXPECTED,
        fact=UNKNOWN_TOOL,
    ),
    Rejection(
        "thinking.type",
        "thinking of the type sometimes",
        _TYPO,
        {"thinking": {"type": "sometimes"}},
    ),
    Rejection(
        "temperature.range",
        "a temperature of 1.5",
        _UNSEEN,
        {"temperature": 1.5},
        level=EXPECTED,
        done=_is_answer,
    ),
    Rejection("top_p.range", "a top_p of 1.5", _TYPO, {"top_p": 1.5}, level=EXPECTED),
    Rejection(
        "metadata.user_id",
        "a user_id that is a number",
        "Metadata is dropped unread, and with it the user for whom a request was made.",
        {"metadata": {"user_id": 7}},
        {"metadata": {"user_id": "user-1"}},
        EXPECTED,
        fact=_TYPES_UNCHECKED,
    ),
    *(
        Rejection(
            f"wrong_type.{field}",
            f"{field}={value!r}",
            _TYPO,
            {field: value},
            done=done,
            fact=_TYPES_UNCHECKED,
        )
        for field, value, done in (
            ("max_tokens", _FIVE, _is_cut_at_five),
            ("temperature", "hot", None),
            ("top_k", "five", None),
            ("stop_sequences", {}, None),
            ("stream", "yes", _is_stream),
            ("tools", {}, None),
        )
    ),
)


def _refused(target: Target, row: Rejection) -> None:
    plain = ask(target, **({"max_tokens": 1} | row.good))
    reply = send(target, **({"max_tokens": 1} | row.bad))
    if row.done and reply.ok and row.done(reply, plain):
        answered = f"{row.what} was answered with 200: {quote(reply.text)}"
        converted = row.fact == _TYPES_UNCHECKED
        fact = _TYPES_CONVERTED if converted else f"{row.what} is accepted"
        expect_strict(not reply.ok, answered, fact=fact)
    rejected(reply, row.what, fact=row.fact)


for row in REJECTIONS:
    rule(
        f"messages.{row.name}",
        title=f"The API refuses {row.what}.",
        breaks=row.breaks,
        level=row.level,
        tier=CORE if row.level is REQUIRED else EXTENDED,
        source=f"{DOCS}: {next(iter(row.bad))}",
    )(partial(_refused, row=row))


@rule(
    "messages.version",
    level=EXPECTED,
    tier=EXTENDED,
    source="anthropic-docs: api/versioning",
)
def version(target: Target) -> None:
    """A request without the header anthropic-version is refused.

    A program that leaves the header out works until it meets Anthropic's own server.
    """
    ask(target, max_tokens=1)
    reply = send(target, max_tokens=1, headers={})
    if reply.ok:
        blocks(reply.success())
        answered = "a request without anthropic-version was answered"
        expect_strict(not reply.ok, answered, fact=_VERSION_UNREAD)
    rejected(reply, "a request without anthropic-version")


@rule(
    "messages.version.sampling",
    level=EXPECTED,
    tier=EXTENDED,
    source="anthropic-docs: api/versioning",
)
def version_sampling(target: Target) -> None:
    """A request of the version 2026-10-21 with a temperature is refused.

    A program that sets a temperature works until it meets Anthropic's own server.
    """
    ask(target, max_tokens=1)
    reply = send(target, max_tokens=1, headers=NEWEST)
    if reply.ok:
        blocks(reply.success())
        answered = "a temperature was accepted in the version 2026-10-21"
        expect_strict(not reply.ok, answered, fact=_VERSION_UNREAD)
    rejected(reply, "a temperature in the version 2026-10-21")


@rule("messages.malformed_json", level=REQUIRED, tier=CORE, source=ERRORS)
def malformed_json(target: Target) -> None:
    """A body that is not JSON is refused.

    A request that was cut on its way is answered as if it were whole, or retried as a 5xx.
    """
    ask(target, max_tokens=1)
    rejected(_cut_body(target), NO_JSON)


@rule("messages.unknown_model", level=EXPECTED, tier=CORE, source=f"{ERRORS}: not_found_error")
def unknown_model(target: Target) -> None:
    """An unknown model is a 404 with the type not_found_error.

    A name with a mistake is answered by another model, and nothing says so.
    """
    ask(target, max_tokens=1)
    reply = send(target, model="no-such-model", max_tokens=1)
    answered = f"an unknown model was answered with 200: {quote(reply.text)}"
    expect_effect(not reply.ok, answered, fact=NAME_IGNORED)
    other = f"an unknown model: {reply.status} instead of 404: {quote(reply.text)}"
    expect(reply.status == 404, other, fact=unknown_model_fact(reply.status))
    kind = pick(_error(reply), str, "type")
    wrong = f"an unknown model: the error has the type {kind!r}"
    expect(kind == "not_found_error", wrong, fact=_fact_of(kind))


@rule("messages.error.envelope", level=REQUIRED, tier=CORE, source=ERRORS)
def error_envelope(target: Target) -> None:
    """An error has the type error, and an object with its type and its message.

    The anthropic SDK shows the whole body as the message, and its errors have no type.
    """
    ask(target, max_tokens=1)
    errors = [reply for reply in _bad_requests(target) if reply.status >= 400]
    if not errors:
        raise Unmeasured(NOTHING_REFUSED)
    for reply in errors:
        error = _error(reply)
        expect(pick(error, str, "message"), f"the message of the error is empty: {quote(error)}")
        kind = pick(error, str, "type")
        unknown = f"the error has the type {kind!r}, which the API does not have"
        expect(kind in TYPES, unknown, fact=_fact_of(kind))


@rule("messages.error.type", level=EXPECTED, tier=EXTENDED, source=ERRORS)
def error_type(target: Target) -> None:
    """A request that is refused with 400 has the type invalid_request_error.

    Clients tell by the type whether the request or the server is at fault.
    """
    ask(target, max_tokens=1)
    refusals = [reply for reply in _bad_requests(target) if reply.status in {400, 422}]
    if not refusals:
        raise Unmeasured(NOTHING_REFUSED)
    kind = pick(refusals[0].object(), str, "error", "type")
    wrong = f"a request that is refused has the type {kind!r}"
    expect(kind == "invalid_request_error", wrong, fact=_fact_of(kind))


def _cut_body(target: Target) -> Reply:
    return target.post("/messages", raw=b'{"model": ', headers=VERSION)


def _bad_requests(target: Target) -> list[Reply]:
    """The replies to a body that is not JSON, and to a field of a wrong type."""
    return [_cut_body(target), send(target, max_tokens="five")]


def _fact_of(kind: str) -> str:
    """The cause of a wrong type of an error: it may be one that the API does not have at all."""
    return "" if kind in TYPES else "errors of /messages have types of their own"


def _error(reply: Reply) -> dict[str, Any]:
    body = reply.object()
    expect(
        body.get("type") == "error",
        f"the body of an error is not of the type error: {quote(body)}",
        fact="errors of /messages have another envelope",
    )
    return pick(body, dict, "error")
