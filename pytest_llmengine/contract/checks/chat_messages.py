"""Checks of chat.messages: every message of a conversation reaches the model.

No check asks for a correct answer, because a small model may not know it. A message that the model
sees changes the text or the prompt's token count; a message that changes neither was ignored.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import effect, full_text, usage
from pytest_llmengine.contract.outcomes import expect, expect_effect
from pytest_llmengine.contract.registry import (
    CORE,
    EXPECTED,
    EXTENDED,
    REQUIRED,
    SMOKE,
    check,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="chat.messages")

Messages = list[dict[str, Any]]

CAP = 8
QUESTION = {"role": "user", "content": "Say hello."}
PIRATE = "You are a pirate who has just found gold. Speak like one."


@rule(
    "chat.roles.system",
    level=REQUIRED,
    tier=SMOKE,
    source="openai-openapi: ChatCompletionRequestSystemMessage",
)
def roles_system(target: Target) -> None:
    """A system message changes what the model sees."""
    _expect_difference(
        target,
        [QUESTION],
        [{"role": "system", "content": PIRATE}, QUESTION],
        "a system message changed neither the text nor the prompt's tokens",
    )


@rule(
    "chat.roles.developer",
    level=REQUIRED,
    tier=CORE,
    source="openai-openapi: ChatCompletionRequestDeveloperMessage",
)
def roles_developer(target: Target) -> None:
    """A developer message is accepted, and changes what the model sees."""
    _expect_difference(
        target,
        [QUESTION],
        [{"role": "developer", "content": PIRATE}, QUESTION],
        "a developer message changed neither the text nor the prompt's tokens",
    )


@rule(
    "chat.content.parts_text",
    level=REQUIRED,
    tier=CORE,
    source="openai-openapi: ChatCompletionRequestUserMessage.content: array of content parts",
)
def content_parts_text(target: Target) -> None:
    """Several text parts are one message: one reads as its string, two cost less than messages."""
    hello, sea = "Say hello.", "Then write about the sea."
    string = _ask(target, [QUESTION])
    part = _ask(target, [{"role": "user", "content": _parts(hello)}])
    expect(
        usage(string, "prompt_tokens") == usage(part, "prompt_tokens"),
        "one text part is {} prompt tokens, its string {}".format(
            usage(part, "prompt_tokens"), usage(string, "prompt_tokens")
        ),
    )
    two_parts = usage(
        _ask(target, [{"role": "user", "content": _parts(hello, sea)}]), "prompt_tokens"
    )
    two_messages = usage(
        _ask(target, [QUESTION, {"role": "user", "content": sea}]), "prompt_tokens"
    )
    one = usage(string, "prompt_tokens")
    expect_effect(two_parts > one, f"the second text part was dropped: {two_parts} prompt tokens")
    expect(
        two_parts < two_messages,
        f"two text parts are {two_parts} prompt tokens, as many as two messages ({two_messages})",
    )


@rule(
    "chat.content.empty_string",
    level=EXPECTED,
    tier=EXTENDED,
    source="OpenAI: an empty user message is answered",
)
def content_empty_string(target: Target) -> None:
    """A user message whose content is "" is answered."""
    _ask(target, [{"role": "user", "content": ""}])


@rule(
    "chat.tool_result.roundtrip",
    level=REQUIRED,
    tier=CORE,
    source="openai-openapi: ChatCompletionRequestToolMessage",
    needs={Capability.TOOLS},
)
def tool_result_roundtrip(target: Target) -> None:
    """The result of a tool call goes back to the model, and changes what it sees."""
    sunny, stormy = (
        target.chat(_with_tool_result(result), max_tokens=CAP).success_or_refused()
        for result in (
            "18 degrees and sunny",
            "hail and snow, and a storm from the north all night",
        )
    )
    expect_effect(
        effect(sunny) != effect(stormy),
        f"two different tool results gave the same text and prompt tokens: {effect(sunny)}",
    )


@rule(
    "chat.multi_turn.assistant_history",
    level=REQUIRED,
    tier=CORE,
    source="openai-openapi: CreateChatCompletionRequest.messages: the conversation so far",
)
def assistant_history(target: Target) -> None:
    """Earlier turns, the user's and the assistant's, change what the model sees."""
    turn = {"role": "user", "content": "My name is Ada."}
    short = {"role": "assistant", "content": "Hello, Ada."}
    long = {
        "role": "assistant",
        "content": "Hello, Ada. I was told that you like the old sea songs.",
    }
    _expect_difference(
        target, [QUESTION], [turn, short, QUESTION], "the turns before the last had no effect"
    )
    _expect_difference(
        target,
        [turn, short, QUESTION],
        [turn, long, QUESTION],
        "what the assistant said earlier had no effect",
    )


@rule(
    "chat.assistant.last_message",
    level=EXPECTED,
    tier=EXTENDED,
    source="OpenAI: a conversation may end with an assistant message",
)
def assistant_last_message(target: Target) -> None:
    """A conversation that ends with an assistant message is answered."""
    _ask(target, [QUESTION, {"role": "assistant", "content": "Well,"}])


def _expect_difference(target: Target, one: Messages, other: Messages, reason: str) -> None:
    first, second = _ask(target, one), _ask(target, other)
    expect_effect(effect(first) != effect(second), f"{reason}: {effect(first)}")


def _ask(target: Target, messages: Messages) -> dict[str, Any]:
    body = target.chat(messages, max_tokens=CAP).success()
    full_text(body)
    return body


def _parts(*texts: str) -> Messages:
    return [{"type": "text", "text": text} for text in texts]


def _with_tool_result(result: str) -> Messages:
    function = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    call = {"id": "call_1", "type": "function", "function": function}
    return [
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]
