"""Checks of chat.request: bad requests are rejected.

The outcomes, here and in all other files:

- A bad value must be answered with a 400 and a message. Each check first sends the same request
  without that value, which must be answered, so a server that refuses everything passes no check.
- A bad value that is answered with a 200 is ``ignored``: the server accepted it and silently did
  something else. An accepted parameter without an effect is ``ignored`` too.
- A value beyond OpenAI's limits that has its effect is ``lenient``: the server can do more. So is a
  request that is merely taken, such as one without a model or with a role of the template's own.
- Any other status, a missing message, and a wrong shape are ``fail``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import (
    control,
    expect_rejected,
    full_text,
    objects,
    rejected,
    usage,
)
from pytest_llmengine.contract.checks.effects import TextChanges
from pytest_llmengine.contract.facts import (
    EFFORT_ACCEPTED,
    OPTIONS_ALONE,
    ROLE_DROPPED,
    STOP_DROPPED,
    TOKENS_BELOW_1,
    either,
)
from pytest_llmengine.contract.observations import Asker, chat
from pytest_llmengine.contract.outcomes import (
    Lenient,
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
from pytest_llmengine.contract.target import Reading

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="chat.request")

SPEC = "openai-openapi: CreateChatCompletionRequest"


@rule("chat.messages.min1", level=REQUIRED, tier=CORE, source=f"{SPEC}.messages minItems 1")
def messages_min1(target: Target) -> None:
    """An empty list of messages is rejected.

    A program with an empty history gets an answer to nothing, instead of an error.
    """
    expect_rejected(target, "messages", [], fact="an empty list of messages is accepted")


@rule("chat.messages.required", level=REQUIRED, tier=SMOKE, source=f"{SPEC}.required")
def messages_required(target: Target) -> None:
    """A request without messages is rejected.

    A program that misspells the field gets an answer to nothing, instead of an error.
    """
    control(target)
    rejected(target.chat(messages=...), "a request without messages")


@rule("chat.model.required", level=REQUIRED, tier=CORE, source=f"{SPEC}.required")
def model_required(target: Target) -> None:
    """A request without a model is rejected.

    A program that forgets the model is answered by one that it does not know.
    """
    control(target)
    reply = target.chat(model=..., max_tokens=1)
    if reply.ok:
        full_text(reply.success())
    _rejected_or_lenient(reply, "a request without a model")


@rule("chat.roles.unknown", level=REQUIRED, tier=CORE, source=f"{SPEC}.messages[].role")
def roles_unknown(target: Target) -> None:
    """A role that the schema does not know is rejected.

    A misspelt role changes the conversation, and nothing says so.
    """
    plain = target.chat(max_tokens=1).success()
    full_text(plain)
    reply = target.chat([{"role": "wizard", "content": "Say hello."}], max_tokens=1)
    fact = "the role wizard is accepted"
    if reply.ok and not plain.get("usage"):
        raise Unmeasured("the answer has no usage, which would show whether the message was read")
    if reply.ok:
        before, after = (usage(body, "prompt_tokens") for body in (plain, reply.success()))
        sizes = f"the prompt has {after} tokens, and {before} with the role user"
        dropped = f"a message of the role wizard was dropped: {sizes}"
        expect_effect(after >= before, dropped, fact=ROLE_DROPPED)
        raise Lenient(f"a message of the role wizard was read: {sizes}", fact=fact)
    rejected(reply, "a message of the role wizard", fact=fact)


@rule(
    "chat.content.null_user",
    level=REQUIRED,
    tier=CORE,
    source="openai-openapi: ChatCompletionRequestUserMessage.content",
)
def content_null_user(target: Target) -> None:
    """A user message whose content is null is rejected.

    A program that lost a user's text gets an answer to nothing, instead of an error.
    """
    expect_rejected(target, "messages", [{"role": "user", "content": None}])


@rule(
    "chat.max_tokens.zero_negative",
    level=EXPECTED,
    tier=EXTENDED,
    heavy=True,
    source="openai-openapi: CreateChatCompletionRequest.max_tokens: the maximum number of "
    "tokens; OpenAI docs: guides/error-codes",
)
def max_tokens_zero_negative(target: Target) -> None:
    """A token cap of 0 or below is rejected.

    A limit that was computed wrongly becomes no limit at all.
    """
    control(target)
    stream = target.chat(max_tokens=1, stream=True).ok
    for value in (-5, 0):
        # Where -5 means no limit, the stop sequences end the answer, or the client leaves.
        given = {"max_tokens": value, "stop": [" ", "!", "."], "stream": stream}
        body = target.chat_body("Say hello.", **given)
        reply = target.post("/chat/completions", body, reading=Reading(chunks=_CHUNKS))
        rejected(reply, f"max_tokens={value}", fact=TOKENS_BELOW_1)


_CHUNKS = 8  # more than an answer of one token has


def _expect_range(target: Target, name: str, outside: Any, beyond: Any) -> None:
    """Expect a 400 for a value without a meaning, and for one beyond OpenAI's limit."""
    control(target)
    rejected(target.chat(**{"max_tokens": 1, name: outside}), f"{name}={outside}")
    _rejected_or_lenient(target.chat(**{"max_tokens": 1, name: beyond}), f"{name}={beyond}")


def _rejected_or_lenient(reply: Reply, what: str) -> None:
    expect_strict(not reply.ok, f"{what} was accepted", fact=f"{what} is accepted")
    rejected(reply, what)


@rule("chat.temperature.range", level=REQUIRED, tier=CORE, source=f"{SPEC}.temperature 0 to 2")
def temperature_range(target: Target) -> None:
    """A temperature of 2 is accepted, one below 0 or above 2 is rejected.

    A temperature that was computed wrongly changes the answers, and nothing says so.
    """
    control(target, temperature=2)
    _expect_range(target, "temperature", -0.5, 2.5)


@rule("chat.top_p.range", level=REQUIRED, tier=CORE, source=f"{SPEC}.top_p 0 to 1")
def top_p_range(target: Target) -> None:
    """A top_p of 0 or 1 is accepted, one below 0 or above 1 is rejected.

    A top_p that was computed wrongly changes the answers, and nothing says so.
    """
    control(target, top_p=0)
    control(target, top_p=1)
    expect_rejected(target, "top_p", 1.5, -0.5, fact="a top_p of 1.5 is accepted")


@rule(
    "chat.penalties.range",
    level=REQUIRED,
    tier=CORE,
    source=f"{SPEC}.frequency_penalty, presence_penalty -2 to 2",
)
def penalties_range(target: Target) -> None:
    """Penalties of -2 and 2 are accepted, those outside are rejected.

    An application that is tested with this server fails with OpenAI's.
    """
    names = ("frequency_penalty", "presence_penalty")
    for values in ((2, -2), (-2, 2)):
        control(target, **dict(zip(names, values, strict=True)))
    accepted = [
        (name, value) for name in names for value in (2.5, -2.5) if _accepts(target, name, value)
    ]
    for name, value in accepted:
        opposite = -2 if value > 0 else 2
        measure = TextChanges({name: value}, {name: opposite, "max_tokens": 32}, words=12)
        measure(Asker(target, chat), name)
    beyond = ", ".join(f"{name}={value}" for name, value in accepted)
    shown = f"{beyond} were accepted, and the text is another one than with the opposite limit"
    expect_strict(not accepted, shown)


def _accepts(target: Target, name: str, value: float) -> bool:
    """Whether a value is accepted; the check fails if it is not refused in words either."""
    params: dict[str, Any] = {"max_tokens": 1, name: value}
    reply = target.chat(**params)
    if not reply.ok:
        rejected(reply, f"{name}={value}")
    return reply.ok


@rule("chat.stop.max4", level=REQUIRED, tier=CORE, source=f"{SPEC}.stop maxItems 4")
def stop_max4(target: Target) -> None:
    """Four stop sequences are accepted, five are rejected.

    A stop sequence that was dropped does not end the text.
    """
    four = ["@1", "@2", "@3", "@4"]
    plain = full_text(target.chat(stop=four).success())
    reply = target.chat(stop=[*four, " "])
    if reply.ok:
        if " " not in plain:
            raise Unmeasured(f"this model cannot show it: it says {quote(plain)}")
        said = full_text(reply.success())
        ended = " " in said and said != plain and plain.startswith(said)
        expect(
            not ended,
            f"the last of 5 stop sequences ended the text, which keeps it: {quote(said)}",
            fact="the stop sequence is kept in the text",
        )
        expect_effect(
            " " not in said,
            f"the last of 5 stop sequences was dropped: {quote(said)}",
            fact=either("the fifth stop sequence is dropped", STOP_DROPPED),
        )
    _rejected_or_lenient(reply, "a list of 5 stop sequences")


@rule("chat.stop.nonstring", level=REQUIRED, tier=CORE, source=f"{SPEC}.stop items string")
def stop_nonstring(target: Target) -> None:
    """A stop sequence that is no string is rejected.

    A stop sequence that was dropped does not end the text.
    """
    expect_rejected(target, "stop", [1])


@rule("chat.n.range", level=REQUIRED, tier=CORE, source=f"{SPEC}.n 1 to 128")
def n_range(target: Target) -> None:
    """An n of 1 is accepted, 0 and 129 are rejected.

    A program gets another number of texts than it asked for.
    """
    control(target, n=1)
    expect_rejected(target, "n", 0)
    reply = target.chat(max_tokens=1, n=129, temperature=1)
    if reply.ok:
        count = len(objects(reply.success(), "choices"))
        expect_effect(count == 129, f"n=129 was accepted, and {count} choices came")
    _rejected_or_lenient(reply, "n=129")


@rule(
    "chat.stream_options.without_stream",
    level=EXPECTED,
    tier=EXTENDED,
    source=f"{SPEC}.stream_options: only set this when you set stream",
)
def stream_options_without_stream(target: Target) -> None:
    """The stream_options of a request that is no stream are rejected.

    A program that forgot to stream waits for the whole answer.
    """
    given = {"include_usage": True}
    expect_rejected(target, "stream_options", given, fact=OPTIONS_ALONE)


@rule("chat.wrong_type", level=REQUIRED, tier=SMOKE, source=f"{SPEC}: types of the properties")
def wrong_type(target: Target) -> None:
    """A parameter of the wrong type is rejected.

    A mistake in a request changes the answer, and nothing says so.
    """
    expect_rejected(target, "temperature", "hot")
    expect_rejected(target, "messages", "Say hello.")
    expect_rejected(target, "max_tokens", "many")


@rule(
    "chat.reasoning_effort",
    level=OPTIONAL,
    tier=EXTENDED,
    source="openai-openapi: ReasoningEffort",
    needs={Capability.REASONING},
)
def reasoning_effort(target: Target) -> None:
    """A reasoning_effort of "low" is accepted, one that the schema does not know is rejected.

    A misspelt effort is dropped, and nothing says so.
    """
    body = target.chat(max_tokens=1, reasoning_effort="low").success_or_refused()
    full_text(body)
    expect_rejected(target, "reasoning_effort", "bogus", fact=EFFORT_ACCEPTED)
