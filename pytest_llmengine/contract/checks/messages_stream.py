"""Checks of messages.stream: the events of a streamed message."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import missing, need_text, pick
from pytest_llmengine.contract.facts import NO_MESSAGE_START, lost_from
from pytest_llmengine.contract.messages_api import (
    HISTORY,
    STREAMING,
    TIME,
    WEATHER,
    Events,
    ask,
    events,
    joined,
    prompt_tokens,
    rule,
    said,
    send,
    usage_of,
    user,
)
from pytest_llmengine.contract.outcomes import Unmeasured, expect, quote
from pytest_llmengine.contract.registry import CORE, EXTENDED, QUIRK, REQUIRED, SMOKE
from pytest_llmengine.contract.samples import ASK_WEATHER, CALL_TOKENS, JSON

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(rule, group="messages.stream", needs={Capability.MESSAGES, Capability.STREAMING})

KNOWN = (
    *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
    *("message_delta", "message_stop", "ping", "error"),
)
_BLOCK = KNOWN[1:4]


@rule("messages.stream.content_type", level=REQUIRED, tier=CORE, source=STREAMING)
def content_type(target: Target) -> None:
    """A stream has the content type text/event-stream, and each event the name of its type.

    The anthropic SDK reads only events with a name, and drops the others without a word.
    """
    reply = send(target, stream=True, max_tokens=4)
    reply.objects_or_refused()
    kind = reply.content_type
    expect(kind == "text/event-stream", f"the content type of the stream is {kind!r}")
    named = [event for event in reply.events if event.data != "[DONE]"]
    for event, value in zip(named, reply.objects(), strict=True):
        expect(
            event.name == value.get("type"), f"an event has the name {event.name!r}: {quote(value)}"
        )


@rule("messages.stream.order", level=REQUIRED, tier=SMOKE, source=STREAMING)
def order(target: Target) -> None:
    """Events come as message_start, the blocks, message_delta and message_stop, each once.

    The anthropic SDK raises an error for an event before message_start, and waits for the end.
    """
    kinds = [pick(event, str, "type") for event in events(target)]
    kinds = [kind for kind in kinds if kind in KNOWN and kind != "ping"]
    outer = [kind for kind in kinds if kind not in _BLOCK]
    expected = ["message_start", "message_delta", "message_stop"]
    fact = "" if expected[0] in outer else NO_MESSAGE_START
    expect(outer == expected, f"there are {outer!r}", fact=fact)
    expect(kinds[0] == outer[0], f"the first event is {kinds[0]!r}")
    expect(kinds[-2:] == outer[1:], f"the last events are {kinds[-2:]!r}")


@rule("messages.stream.blocks", level=REQUIRED, tier=CORE, source=STREAMING)
def content_blocks(target: Target) -> None:
    """Each block has a start, its deltas and a stop with its index, counted from 0.

    The anthropic SDK adds each delta to the block of its index: to another one, or to none.
    """
    _check_blocks(events(target))
    tools = {"tools": [WEATHER, TIME], "max_tokens": CALL_TOKENS}
    _check_blocks(events(target, messages=user(ASK_WEATHER), **tools))


_EMPTY: dict[str, JSON] = {
    "text": {"text": ""},
    "thinking": {"thinking": ""},
    "tool_use": {"input": {}},
}
_DELTA_OF = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
}


def _check_blocks(found: Events) -> None:
    begun, open_block = 0, None
    for event in found:
        kind = event["type"]
        if kind not in _BLOCK:
            continue
        index = pick(event, int, "index")
        if kind == "content_block_start":
            expect(open_block is None, f"block {index} begins before the end of the last one")
            expect(index == begun, f"block {begun} has the index {index}")
            begun, open_block = begun + 1, pick(event, dict, "content_block")
            _check_empty(open_block)
            continue
        expect(open_block is not None, f"{kind} of block {index}, and no block is open")
        expect(index == begun - 1, f"{kind} has the index {index} in block {begun - 1}")
        if kind == "content_block_stop":
            open_block = None
        elif open_block is not None and open_block["type"] in _DELTA_OF:
            delta = pick(event, str, "delta", "type")
            fits = delta in _DELTA_OF[open_block["type"]]
            expect(fits, f"a {delta!r} in a block of the type {open_block['type']!r}")
    if not begun:
        raise Unmeasured("this model cannot show it: its message has no block")
    expect(open_block is None, "the last block has no content_block_stop")


def _check_empty(block: JSON) -> None:
    """The block at its start has its fields, and nothing in those that deltas fill."""
    for field, value in _EMPTY.get(kind := pick(block, str, "type"), {}).items():
        expect(
            field in block, f"a block of the type {kind!r} starts without {field}: {quote(block)}"
        )
        expect(block.get(field) == value, f"a block does not start empty: {quote(block)}")


@rule("messages.stream.start", level=REQUIRED, tier=CORE, source=f"{STREAMING}: message_start")
def start(target: Target) -> None:
    """message_start has the message with its id and model, no content, and the prompt's usage.

    The anthropic SDK makes its message of this event, and has no other source of these fields.
    """
    message = pick(events(target, max_tokens=4)[0], dict, "message")
    wanted = ("id", "type", "role", "content", "model", "stop_reason", "stop_sequence", "usage")
    absent = missing(message, *wanted)
    lost = lost_from("message", absent)
    expect(not absent, f"the message in message_start has no {', '.join(absent)}", fact=lost)
    expect(message["content"] == [], f"message_start has a content: {quote(message['content'])}")
    reason = message["stop_reason"]
    expect(reason is None, f"message_start has the stop_reason {reason!r}")
    expect(prompt_tokens(message) > 0, "message_start counts no token of the prompt")


@rule("messages.stream.usage", level=REQUIRED, tier=CORE, source=f"{STREAMING}: message_delta")
def usage(target: Target) -> None:
    """The usage of a stream is that of the whole message.

    Costs of streams are computed wrongly.
    """
    whole, streamed = ask(target), ask(target, stream=True)
    if said(whole) != said(streamed):
        raise Unmeasured("the server answers differently each time, also at temperature 0")
    counts = [
        (prompt_tokens(b), pick(usage_of(b), int, "output_tokens")) for b in (whole, streamed)
    ]
    expect(counts[0] == counts[1], f"the whole message and the stream have the tokens {counts!r}")


@rule("messages.stream.equals_whole", level=QUIRK, tier=CORE, source=STREAMING)
def equals_whole(target: Target) -> None:
    """The joined deltas are the text of the whole message, with history and system prompt.

    A stream that drops a part of the request, or of the answer, shows only here.
    """
    given = {
        "system": "You are a guide. Use the name of the person.",
        "messages": [*HISTORY, {"role": "user", "content": "Tell me about the sea."}],
    }
    first, streamed, again = (ask(target, stream=s, **given) for s in (False, True, False))
    if said(first) != said(again):
        raise Unmeasured("the server answers differently each time, also at temperature 0")
    texts = said(first), said(streamed)
    expect(texts[0] == texts[1], f"the whole text is {texts[0]!r}, and the stream's {texts[1]!r}")


@rule("messages.stream.delta", level=REQUIRED, tier=CORE, source=f"{STREAMING}: message_delta")
def message_delta(target: Target) -> None:
    """message_delta has the stop_reason, the stop_sequence and the number of output tokens.

    The anthropic SDK copies these three, and raises an error if the usage is missing.
    """
    found = events(target, max_tokens=4)
    last = [event for event in found if event["type"] == "message_delta"]
    expect(last, "there is no message_delta")
    pick(last[-1], str, "delta", "stop_reason")
    absent = missing(pick(last[-1], dict, "delta"), "stop_sequence")
    expect(not absent, "the delta of message_delta has no stop_sequence")
    came = pick(usage_of(last[-1]), int, "output_tokens")
    if not came:
        need_text(said(joined(found)))
    expect(came >= 1, f"message_delta counts {came} output tokens")
    joined(found)


@rule(
    "messages.stream.error.before_first_byte",
    level=REQUIRED,
    tier=EXTENDED,
    source="anthropic-docs: api/errors",
)
def error_before(target: Target) -> None:
    """A request that cannot be answered is a 4xx, though it asks for a stream.

    Clients wait for a message_start that never comes.
    """
    events(target, max_tokens=1)
    reply = send(target, stream=True, max_tokens="five")
    expect(not reply.ok, f"max_tokens='five' was answered with 200: {quote(reply.text)}")
    expect(reply.is_refusal, f"max_tokens='five': {reply.status}: {quote(reply.text)}")
    json_type = reply.content_type
    expect(json_type == "application/json", f"the error has the content type {json_type!r}")
