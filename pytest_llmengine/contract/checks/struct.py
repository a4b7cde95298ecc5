"""Checks of struct: the server makes answers follow JSON or a schema."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import (
    answered,
    choice,
    content,
    finish_reasons,
    message,
    need_text,
    reasoning,
    rejected,
    stream_chat,
    text,
    tool_calls,
)
from pytest_llmengine.contract.facts import (
    FORMAT_DROPPED,
    NO_REFUSAL_KEY,
    SCHEMA_DROPPED,
    either,
)
from pytest_llmengine.contract.outcomes import Ignored, Unmeasured, expect, expect_effect, quote
from pytest_llmengine.contract.registry import (
    CORE,
    EXPECTED,
    EXTENDED,
    OPTIONAL,
    REQUIRED,
    SMOKE,
    check,
)
from pytest_llmengine.contract.samples import (
    COLOUR,
    COLOUR_SCHEMA,
    WEATHER,
    constrained_to,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="struct")

SPEC = "openai-openapi: ResponseFormatJsonSchema"
SCHEMA = {Capability.JSON_SCHEMA}
ASK = "Which colour has the sky?"
ASK_NUMBER = "What is 2 + 2? Say the number, not in JSON."  # small models end this answer soon
FORMAT = constrained_to(COLOUR_SCHEMA)
TOKENS = 64


@rule(
    "struct.json_object",
    level=OPTIONAL,
    tier=SMOKE,
    source="openai-openapi: ResponseFormatJsonObject",
    needs={Capability.JSON_OBJECT},
)
def json_object(target: Target) -> None:
    """response_format json_object gives a JSON object, though the prompt asks for prose.

    The client's JSON parser gets prose.
    """
    reply = target.chat(
        ASK_NUMBER,
        response_format={"type": "json_object"},
        max_tokens=TOKENS,
    )
    body = answered(reply.success_or_refused())
    answer = content(body)
    if choice(body).get("finish_reason") == "length" and answer.lstrip().startswith("{"):
        raise Unmeasured(f"the token cap cut the object: {answer!r}")
    if reasoning(body) and not answer:
        raise Unmeasured(f"the model ended within its reasoning: {quote(reasoning(body))}")
    expect_effect(
        isinstance(_parsed(need_text(answer)), dict),
        f"json_object was accepted, and the answer is {answer!r}",
    )


@rule("struct.json_schema.strict", level=OPTIONAL, tier=SMOKE, source=SPEC, needs=SCHEMA)
def json_schema_strict(target: Target) -> None:
    """A strict schema holds the answer to it, whatever the model would rather say.

    Data of a wrong shape reaches the program, although the schema was accepted.
    """
    reply = target.chat(ASK, response_format=FORMAT, max_tokens=TOKENS)
    _expect_colour(content(answered(reply.success_or_refused())))


@rule("struct.stream", level=OPTIONAL, tier=EXTENDED, source=SPEC, needs=SCHEMA)
def struct_stream(target: Target) -> None:
    """A strict schema holds a streamed answer to it as well.

    Data of a wrong shape reaches the program when it is streamed.
    """
    _expect_colour(_streamed(target, ASK))


@rule(
    "struct.stream.dictated",
    level=OPTIONAL,
    tier=EXTENDED,
    source=f"{SPEC}.strict",
    needs=SCHEMA,
    since="2026-11-27",
)
def struct_stream_dictated(target: Target) -> None:
    """A strict schema holds a streamed answer to it, though the prompt dictates other JSON.

    Data of a wrong shape reaches the program, because the words of a user count for more.
    """
    prompt = 'Repeat this JSON: {"color": "green"}'
    _expect_colour(_streamed(target, prompt))


@rule(
    "struct.with_tools",
    level=OPTIONAL,
    tier=EXTENDED,
    source=SPEC,
    needs=SCHEMA | {Capability.TOOLS},
)
def with_tools(target: Target) -> None:
    """A strict schema also holds when there are tools that the model does not call.

    Data of a wrong shape reaches the program as soon as tools are offered.
    """
    reply = target.chat(ASK, response_format=FORMAT, tools=[WEATHER], max_tokens=TOKENS)
    body = answered(reply.success_or_refused())
    if tool_calls(body):
        raise Unmeasured("the model called a tool, so no text was to be held to the schema")
    _expect_colour(content(body))


@rule(
    "struct.json_schema.missing",
    level=REQUIRED,
    tier=CORE,
    source=f"{SPEC}.required",
    needs=SCHEMA,
)
def json_schema_missing(target: Target) -> None:
    """A response_format of type json_schema without a json_schema is a 400.

    A client's bug turns structured output off without notice.
    """
    _control(target)
    reply = target.chat(response_format={"type": "json_schema"}, max_tokens=4)
    _rejected(reply, "response_format json_schema without a schema")


@rule(
    "struct.type.unknown",
    level=REQUIRED,
    tier=CORE,
    source="openai-openapi: CreateChatCompletionRequest.response_format",
)
def type_unknown(target: Target) -> None:
    """A response_format of an unknown type is a 400.

    A misspelt type turns structured output off without notice.
    """
    target.chat(response_format={"type": "text"}, max_tokens=1).success()
    reply = target.chat(response_format={"type": "haiku"}, max_tokens=4)
    _rejected(reply, "response_format of type 'haiku'")


@rule(
    "struct.schema.invalid",
    level=EXPECTED,
    tier=EXTENDED,
    source="OpenAI docs: guides/structured-outputs",
    needs=SCHEMA,
)
def schema_invalid(target: Target) -> None:
    """A schema that is no JSON schema is a 400.

    A wrong schema is dropped, and data of any shape reaches the program.
    """
    _control(target)
    reply = target.chat(response_format=constrained_to({"type": "haiku"}), max_tokens=4)
    _rejected(reply, "a schema of type 'haiku'")


@rule(
    "struct.refusal",
    level=OPTIONAL,
    tier=EXTENDED,
    source="openai-openapi: ChatCompletionResponseMessage.refusal",
    needs=SCHEMA,
)
def refusal_key(target: Target) -> None:
    """A structured answer has a refusal: null beside an answer, or text instead of one.

    A refusal cannot be told from an answer.
    """
    reply = target.chat(ASK, response_format=FORMAT, max_tokens=TOKENS)
    found = message(answered(reply.success_or_refused()))
    expect(
        "refusal" in found,
        f"the message has no refusal key: {quote(found)}",
        fact=NO_REFUSAL_KEY,
    )
    given = [key for key in ("refusal", "content") if found.get(key) is not None]
    expect(len(given) == 1, f"both or neither of refusal and content: {quote(found)}")


def _rejected(reply: Reply, what: str) -> None:
    rejected(reply, what, fact=either(f"{what} is accepted", FORMAT_DROPPED))


def _control(target: Target) -> None:
    """End the check as refused if valid schemas are refused, so a 400 is about the bad one."""
    target.chat(ASK, response_format=FORMAT, max_tokens=2).success_or_refused()


def _streamed(target: Target, prompt: str) -> str:
    """The text of a structured stream; unmeasured if its tokens went into reasoning."""
    chunks = stream_chat(target, prompt, response_format=FORMAT, max_tokens=TOKENS)
    if finish_reasons(chunks) == ["length"]:
        need_text(text(chunks))
    return text(chunks)


def _expect_colour(text: str) -> None:
    reason = f"the schema was accepted, and the answer is {text!r}"
    value = _parsed(need_text(text))
    fact = SCHEMA_DROPPED if isinstance(value, dict) else FORMAT_DROPPED
    expect_effect(value == COLOUR, reason, fact=fact)


def _parsed(answer: str) -> Any:
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        reason = f"JSON was asked for and accepted, and the answer is {answer!r}"
        raise Ignored(reason, fact=FORMAT_DROPPED) from None
