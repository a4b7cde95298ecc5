"""Checks of chat.messages: every message of a conversation reaches the model.

No check asks for a correct answer, because a small model may not know it. A message that the model
sees changes the text or the prompt's token count; a message that changes neither was ignored.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import content, full_text, usage
from pytest_llmengine.contract.checks.effects import EachReaches, effect, reaches
from pytest_llmengine.contract.facts import PARTS_DIFFER
from pytest_llmengine.contract.observations import chat
from pytest_llmengine.contract.outcomes import Unmeasured, expect, expect_effect
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
ASKED = {"prompt": [QUESTION], "max_tokens": CAP}
TURN = {"role": "user", "content": "My name is Ada."}
REPLY = {"role": "assistant", "content": "Hello, Ada."}
LONG_REPLY = {"role": "assistant", "content": "Hello, Ada. You like the old sea songs, I was told."}
PIRATE = "You are a pirate who has just found gold. Speak like one."


for role, schema, breaks in (
    ("system", "ChatCompletionRequestSystemMessage", "The application's instructions are lost."),
    (
        "developer",
        "ChatCompletionRequestDeveloperMessage",
        "Clients for newer models send their instructions in this role, and they are lost.",
    ),
):
    effect(
        f"chat.roles.{role}",
        chat,
        reaches({"prompt": [{"role": role, "content": PIRATE}, QUESTION]}, ASKED),
        f"A {role} message changes what the model sees.",
        breaks,
        name=f"a {role} message",
        source=f"openai-openapi: {schema}",
        tier=SMOKE if role == "system" else CORE,
        group="chat.messages",
        since="",
    )


@rule(
    "chat.content.parts_text",
    level=REQUIRED,
    tier=CORE,
    source="openai-openapi: ChatCompletionRequestUserMessage.content: array of content parts",
)
def content_parts_text(target: Target) -> None:
    """Several text parts are one message: one reads as its string, two cost less than messages.

    Clients that send text in parts, as the SDK allows, get other answers than with strings.
    """
    hello, sea = "Say hello.", "Then write about the sea."
    string = _ask(target, [QUESTION])
    part = _ask(target, [{"role": "user", "content": _parts(hello)}])
    expect(
        usage(string, "prompt_tokens") == usage(part, "prompt_tokens"),
        "one text part is {} prompt tokens, its string {}".format(
            usage(part, "prompt_tokens"), usage(string, "prompt_tokens")
        ),
        fact=PARTS_DIFFER,
    )
    two_parts, joined, two_messages = (
        usage(_ask(target, messages), "prompt_tokens")
        for messages in (
            [{"role": "user", "content": _parts(hello, sea)}],
            [{"role": "user", "content": f"{hello}\n{sea}"}],
            [QUESTION, {"role": "user", "content": sea}],
        )
    )
    one = usage(string, "prompt_tokens")
    if one == two_messages == joined:
        raise Unmeasured("the count of prompt tokens does not depend on the prompt")
    expect_effect(two_parts > one, f"the second text part was dropped: {two_parts} prompt tokens")
    # A server may make one message of two, so that only the joined text tells them apart.
    expect(
        two_parts < two_messages or two_parts <= joined,
        f"two text parts are {two_parts} prompt tokens, as many as two messages ({two_messages})",
    )


@rule(
    "chat.content.empty_string",
    level=EXPECTED,
    tier=EXTENDED,
    source="openai-openapi: ChatCompletionRequestUserMessage.content: a string of any length",
)
def content_empty_string(target: Target) -> None:
    """A user message whose content is "" is answered.

    A chat in which a user sends nothing ends with an error.
    """
    _ask(target, [{"role": "user", "content": ""}])


def _with_tool_result(result: str) -> Messages:
    function = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    call = {"id": "call_1", "type": "function", "function": function}
    return [
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]


effect(
    "chat.tool_result.roundtrip",
    chat,
    reaches(
        {"prompt": _with_tool_result("hail and snow, and a storm from the north all night")},
        {"prompt": _with_tool_result("18 degrees and sunny"), "max_tokens": CAP},
    ),
    "The result of a tool call goes back to the model, and changes what it sees.",
    "An agent's model does not read what its tools found.",
    name="a tool message",
    source="openai-openapi: ChatCompletionRequestToolMessage",
    tier=CORE,
    needs={Capability.TOOLS},
    group="chat.messages",
    since="",
)
effect(
    "chat.multi_turn.assistant_history",
    chat,
    EachReaches(
        ({"prompt": [QUESTION]}, {"prompt": [TURN, LONG_REPLY, QUESTION]}),
        {"prompt": [TURN, REPLY, QUESTION], "max_tokens": CAP},
    ),
    "Earlier turns, the user's and the assistant's, change what the model sees.",
    "A chat forgets what was said before.",
    name="an earlier message",
    source="openai-openapi: CreateChatCompletionRequest.messages: the conversation so far",
    tier=CORE,
    group="chat.messages",
    since="",
)


@rule(
    "chat.assistant.last_message",
    level=EXPECTED,
    tier=EXTENDED,
    source="openai-openapi: ChatCompletionRequestAssistantMessage: no rule about the last message",
)
def assistant_last_message(target: Target) -> None:
    """A conversation that ends with an assistant message is answered.

    Clients that let the model continue a text of their own get an error.
    """
    prefilled = [QUESTION, {"role": "assistant", "content": "Well,"}]
    full_text(target.chat(prefilled, max_tokens=CAP).success_or_refused())


def _ask(target: Target, messages: Messages) -> dict[str, Any]:
    body = target.chat(messages, max_tokens=CAP).success()
    full_text(body)
    return body


def _parts(*texts: str) -> Messages:
    return [{"type": "text", "text": text} for text in texts]


@rule(
    "chat.messages.order",
    level=REQUIRED,
    tier=EXTENDED,
    source="openai-openapi: CreateChatCompletionRequest.messages",
    since="2026-11-27",
    breaks="The model answers an earlier question of the conversation, and not the last one.",
)
def order(target: Target) -> None:
    """The last message of a conversation is answered, and not the first one."""
    hello, greeting = QUESTION, {"role": "assistant", "content": "Hello."}
    turned = 0
    for word in ("papaya", "oregano"):
        asked = {"role": "user", "content": f"Repeat exactly: {word}"}
        last, first = (
            word in content(target.chat(found, max_tokens=CAP).success()).lower()
            for found in ([hello, greeting, asked], [asked, greeting, hello])
        )
        if last and not first:
            return
        turned += first and not last
    expect(turned < 2, "the first message was answered, and not the last one")
    raise Unmeasured("this model cannot show it: it repeats no word when it is asked to")
