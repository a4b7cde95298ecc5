"""Checks of chat.stream.sse_grammar and chat.stream.utf8: the bytes of the events."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import chunks_of, deltas, finish_reasons, text
from pytest_llmengine.contract.outcomes import Unmeasured, expect, fail, quote
from pytest_llmengine.contract.registry import EXTENDED, QUIRK, check

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="chat.stream.grammar")

NEEDS = {Capability.STREAMING}
UNICODE = "Repeat exactly: 🙂🙃🦊🐙 漢字"
REPLACEMENT = "\ufffd"
_FIELDS = {"data", "event", "id", "retry"}


@rule(
    "chat.stream.sse_grammar",
    level=QUIRK,
    tier=EXTENDED,
    source="WHATWG HTML 9.2.6: interpreting an event stream",
    needs=NEEDS,
)
def sse_grammar(target: Target) -> None:
    """Every line of a stream is a field, a comment or blank, and a blank line ends every event.

    Parsers by the standard join, drop or split events.
    """
    reply = target.chat(stream=True, max_tokens=8)
    chunks_of(reply)
    lines = reply.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    wrong = [line for line in lines if line and line.partition(":")[0] not in {*_FIELDS, ""}]
    expect(not wrong, f"a line is not a field of an event stream: {quote(wrong[:1])}")
    expect(lines[-2:] == ["", ""], f"no blank line after the last event: {quote(lines[-2:])}")


@rule(
    "chat.stream.utf8.valid_json_each",
    level=QUIRK,
    tier=EXTENDED,
    source="ggml-org/llama.cpp#28926",
    needs=NEEDS,
)
def valid_json_each(target: Target) -> None:
    """Every event is valid UTF-8 and JSON by itself, also in the middle of an emoji.

    The client's JSON parser raises an error in the middle of an answer.
    """
    reply = target.chat(UNICODE, stream=True, max_tokens=24)
    try:
        reply.body.decode()
    except UnicodeDecodeError as error:
        fail(f"the stream is not UTF-8: {error}")
    for delta in deltas(chunks_of(reply)):
        part = delta.get("content") or ""
        halves = [c for c in part if "\ud800" <= c <= "\udfff"]
        expect(not halves, f"an event holds half a character: {quote(ascii(part))}")


@rule(
    "chat.stream.utf8.no_ufffd",
    level=QUIRK,
    tier=EXTENDED,
    source="Blaizzy/mlx-vlm#1076; abetlen/llama-cpp-python#372",
    needs=NEEDS,
)
def no_ufffd(target: Target) -> None:
    """No character of a stream is lost to U+FFFD between two tokens.

    Emoji and other characters of several tokens are lost in streams.
    """
    chunks = chunks_of(target.chat(UNICODE, stream=True, max_tokens=24))
    answer = text(chunks)
    if finish_reasons(chunks) == ["length"]:
        answer = answer.rstrip(REPLACEMENT)
    expect(REPLACEMENT not in answer, f"U+FFFD in the streamed text: {answer!r}")
    if answer.isascii():
        raise Unmeasured(f"the model answered without a character outside ASCII: {answer!r}")
