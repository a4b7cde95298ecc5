"""Checks of effects.chat and effects.stream: every message of a conversation reaches the model."""

from __future__ import annotations

import json
from functools import partial

from pytest_llmengine.contract.checks.effects import EachReaches, effect, reaches
from pytest_llmengine.contract.checks.effects_chat import STREAMS, TOOLS, both, streamed
from pytest_llmengine.contract.observations import PROMPT, Params, chat
from pytest_llmengine.contract.registry import OPTIONAL, QUIRK

MESSAGES = "openai-openapi: CreateChatCompletionRequest.messages"
QUESTION = {"role": "user", "content": "Say hello."}
SYSTEM = {"role": "system", "content": "You are a pirate who has just found gold. Speak like one."}
TURNS = [
    {"role": "system", "content": "You are a gardener."},
    {"role": "user", "content": "My name is Ada."},
    {"role": "assistant", "content": "Hello, Ada."},
    {"role": "user", "content": "I like roses."},
    {"role": "assistant", "content": "So do I."},
    QUESTION,
]
SHORT = {"max_tokens": 8}


def asked(*messages: Params) -> Params:
    """The parameters of a conversation."""
    return {**SHORT, "prompt": list(messages)}


def _longer(index: int) -> Params:
    """The conversation, with more words in one message."""
    turn = TURNS[index]
    more = {**turn, "content": f"{turn['content']} Think of the old garden behind the house."}
    return asked(*TURNS[:index], more, *TURNS[index + 1 :])


LONG = ["sea"] * 200
about_messages = partial(effect, way=chat, source=MESSAGES)
about_messages(
    "effects.chat.every_message",
    measure=EachReaches(tuple(map(_longer, range(len(TURNS)))), asked(*TURNS)),
    title="More words in any message of a conversation change what the model sees.",
    breaks="A chat forgets some of its messages, and nothing says so.",
)
about_messages(
    "effects.chat.long_prompt",
    measure=EachReaches(
        tuple({"prompt": " ".join([*LONG[:at], "gold and", *LONG[at:]])} for at in (0, 100, 200)),
        {**SHORT, "prompt": " ".join(LONG)},
    ),
    title="Words at the beginning, in the middle and at the end of 200 words reach the model.",
    breaks="The server cuts long prompts, and nothing says so.",
)
LONGER = ["information"] * 1_800  # 21,600 characters; each word is one token in most vocabularies
about_messages(
    "effects.chat.longer_prompt",
    measure=EachReaches(
        tuple({"prompt": " ".join([*LONGER[:at], "gold", *LONGER[at:]])} for at in (0, 900, 1_800)),
        {**SHORT, "prompt": " ".join(LONGER)},
    ),
    title="Words at the beginning, in the middle and at the end of 20,000 characters are read.",
    breaks="The server cuts a document that fits in the context, and nothing says so.",
)
HOUSE = {**SHORT, "prompt": "Write about the old red house."}
about_messages(
    "effects.chat.upper_case",
    measure=reaches({"prompt": "WRITE ABOUT THE OLD RED HOUSE."}, HOUSE, counted=False),
    title="The model sees whether a prompt is in upper case.",
    breaks="Names, code and acronyms are changed before the model reads them.",
)
about_messages(
    "effects.chat.whitespace",
    measure=reaches({"prompt": "Write\n\n    about the\t\told red house."}, HOUSE, counted=False),
    title="The model sees the line breaks and the indentation of a prompt.",
    breaks="Code and tables lose their form before the model reads them.",
)
about_messages(
    "effects.chat.beyond_ascii",
    measure=reaches(
        {"prompt": "Write about the café in 北京 🦊 at noon."},
        {**SHORT, "prompt": "Write about the caf in   at noon."},
        counted=False,
    ),
    title="Letters with accents, other scripts and emoji reach the model.",
    breaks="Names and whole languages are lost before the model reads them.",
)
about_messages(
    "effects.chat.separate_messages",
    measure=EachReaches(
        tuple(
            asked({"role": "user", "content": f"Say hello.{between}Speak up."})
            for between in (" ", "\n", "\n\n")
        ),
        asked(QUESTION, {"role": "user", "content": "Speak up."}),
        counted=False,
    ),
    title="Two user messages are not the same as one with both texts.",
    breaks="The model cannot tell where one message ends and the next begins.",
    level=QUIRK,
)
REFUSED = "I cannot tell you where the gold is."


def _refused(text: str, *, part: bool) -> Params:
    content = [{"type": "refusal", "refusal": text}] if part else None
    refusal = {} if part else {"refusal": text}
    return asked(QUESTION, {"role": "assistant", "content": content, **refusal}, QUESTION)


for form in ("refusal", "refusal_part"):
    in_part = form == "refusal_part"
    both(
        form,
        reaches(_refused(REFUSED, part=in_part), _refused("No.", part=in_part)),
        f"A {form.replace('_', ' ')} in an earlier message of the assistant reaches the model.",
        "The model does not know what it refused before.",
        source="openai-openapi: ChatCompletionRequestAssistantMessage.refusal",
        level=OPTIONAL,
    )
CALL = {"id": "call_1", "type": "function"}


def _called(city: str) -> Params:
    function = {"name": "get_weather", "arguments": json.dumps({"city": city})}
    call = {"role": "assistant", "content": None, "tool_calls": [{**CALL, "function": function}]}
    return asked(QUESTION, call, {"role": "tool", "tool_call_id": "call_1", "content": "Rain."})


both(
    "tool_call_in_history",
    reaches(_called("Llanfairpwllgwyngyll in the north of Wales"), _called("Paris")),
    "An earlier tool call of the assistant reaches the model.",
    "An agent's model does not know which call the result belongs to.",
    source="openai-openapi: ChatCompletionRequestAssistantMessage.tool_calls",
    needs=TOOLS,
)
PARTS = [{"type": "text", "text": text} for text in (PROMPT, REFUSED)]
for part, with_it, without_it, breaks in (
    (
        "text_parts",
        asked({"role": "user", "content": PARTS}),
        asked({"role": "user", "content": PARTS[:1]}),
        "Clients that send text in parts get an answer to one part.",
    ),
    (
        "system",
        asked(SYSTEM, QUESTION),
        asked(QUESTION),
        "A chat with a streamed answer loses its instructions.",
    ),
    (
        "history",
        asked(*TURNS),
        asked(QUESTION),
        "A chat with streamed answers forgets what was said.",
    ),
):
    streamed(
        f"effects.stream.{part}",
        measure=reaches(with_it, without_it),
        title=f"In a stream, the {part.replace('_', ' ')} of a conversation reaches the model.",
        breaks=breaks,
        source=MESSAGES,
        needs=STREAMS,
    )
