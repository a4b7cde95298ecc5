"""Checks of effects.chat and effects.stream: what the fields of a chat completion change."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import objects, pick, stream_chat, text
from pytest_llmengine.contract.checks.effects import (
    HOT,
    ONE_TOKEN,
    SEVERAL,
    SINCE,
    SPEC,
    CallsOnly,
    Measurement,
    Repeats,
    StreamMatches,
    TextChanges,
    TokensAtMost,
    Without,
    effect,
    ignored,
    reaches,
)
from pytest_llmengine.contract.facts import (
    ALLOWED_TOOLS_DROPPED,
    OBFUSCATION_DROPPED,
    either,
    fields_dropped,
)
from pytest_llmengine.contract.observations import Asker, Params, chat, chat_stream
from pytest_llmengine.contract.outcomes import Unmeasured, expect, expect_effect, quote
from pytest_llmengine.contract.registry import EXTENDED, OPTIONAL, check
from pytest_llmengine.contract.samples import (
    ASK_BOTH,
    ASK_WEATHER,
    CALL_TOKENS,
    TIME,
    WEATHER,
    named,
)
from pytest_llmengine.contract.stored_answers import stored, tier_of
from pytest_llmengine.contract.tool_answer import expect_one_call, seeded

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

STREAMS, N, TOOLS = {Capability.STREAMING}, {Capability.N}, {Capability.TOOLS}
LOGPROBS, BIAS = {Capability.LOGPROBS}, {Capability.LOGIT_BIAS}
streamed = partial(effect, way=chat_stream)


def both(row: str, measure: Measurement, title: str, breaks: str, **columns: Any) -> None:
    """A row for whole answers, and the same row for streams."""
    needs = frozenset(columns.pop("needs", ()))
    effect(f"effects.chat.{row}", chat, measure, title, breaks, needs=needs, **columns)
    in_stream = f"In a stream, {title[0].lower()}{title[1:]}"
    effect(
        f"effects.stream.{row}",
        chat_stream,
        measure,
        in_stream,
        breaks,
        needs=needs | STREAMS,
        **columns,
    )


def as_whole(row: str, treated: Params, control: Params, breaks: str, **columns: Any) -> None:
    """A row for a field that must change a stream as it changes the whole answer."""
    effect(
        f"effects.stream.{row}",
        chat_stream,
        StreamMatches(chat, treated, control),
        f"{columns.get('name', row)} changes a streamed answer as it changes the whole one.",
        breaks,
        needs=frozenset(columns.pop("needs", ())) | STREAMS,
        **columns,
    )


# ---- chance

both(
    "temperature",
    Repeats({"temperature": 0}, HOT, {**HOT, "top_p": ONE_TOKEN}),
    "A temperature of 0 gives the same text each time, and 1.5 gives others.",
    "A program that relies on repeatable answers gets random ones.",
)
both(
    "top_p",
    Repeats({**HOT, "top_p": ONE_TOKEN}, HOT, {"temperature": 0}),
    "A tiny top_p gives the same text each time, even at temperature 1.5.",
    "Unlikely tokens that a program wants to exclude are sampled.",
)
streamed(
    "effects.stream.seed",
    measure=Repeats({"temperature": 1, "seed": 7}, {"temperature": 1}, {"temperature": 0}),
    title="In a stream, the same seed gives the same text, and other seeds give others.",
    breaks="A streamed answer cannot be repeated for a test or a bug report.",
    level=OPTIONAL,
    needs=STREAMS | {Capability.SEED},
)


# ---- penalties and biases

for penalty in ("frequency_penalty", "presence_penalty"):
    low, high = {penalty: -2, "max_tokens": 32}, {penalty: 2}
    effect(
        f"effects.chat.{penalty}",
        chat,
        TextChanges(high, low, words=12),
        f"A {penalty} of 2 gives another text than one of -2.",
        "A program that sets a penalty against loops still gets them.",
    )
    as_whole(penalty, high, low, "Streamed answers fall into loops that whole answers do not have.")
as_whole(
    "logit_bias",
    {"logit_bias": {"100": 100}},
    {"max_tokens": 4},
    "A classifier that allows only some tokens gets any text in a stream.",
    needs=BIAS,
)
effect(
    "effects.chat.logit_bias_ban",
    chat,
    # In the usual vocabularies, these are the most frequent characters and words.
    TextChanges({"logit_bias": {str(i): -100 for i in range(300)}}, {"max_tokens": 24}),
    "A logit_bias of -100 for the 300 first tokens of the vocabulary changes the text.",
    "Words that a program bans still come.",
    name="logit_bias",
    needs=BIAS,
)


# ---- limits, stop sequences and choices

for limit, default in (("max_tokens", {}), ("max_completion_tokens", {"max_tokens": ...})):
    streamed(
        f"effects.stream.{limit}",
        measure=TokensAtMost(5, default),
        title=f"A stream has no more tokens than {limit}.",
        breaks="A stream costs more, and lasts longer, than the client allowed.",
        needs=STREAMS,
    )
streamed(
    "effects.stream.stop",
    measure=Without(" ", {"stop": " "}),
    title="In a stream, the text ends before a stop sequence.",
    breaks="A streaming parser runs past the end that it asked for.",
    needs=STREAMS,
)
streamed(
    "effects.stream.stop_n",
    measure=Without(" ", {"stop": " "}, SEVERAL),
    title="In a stream with n=2, both texts end before a stop sequence.",
    breaks="Only the first choice is cut, and the others run past their end.",
    name="stop",
    needs=N | STREAMS,
)


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Each choice has logprobs, with so many alternatives per token; 0 for any number."""

    top: int
    control: Params

    def __call__(self, ask: Asker, name: str) -> None:  # noqa: ARG002 - two fields
        """Ask once; the control is for other fields."""
        wanted = {"logprobs": True, "top_logprobs": self.top or ..., "max_tokens": 3}
        for choice in ask(**{**self.control, **wanted}).choices:
            entries = [e for part in choice.logprobs for e in objects(part, "content")]
            if not choice.content:
                raise Unmeasured("this model cannot show it: it says nothing")
            if not entries:
                raise ignored("logprobs", f"a choice has none beside the text {quote(choice.text)}")
            if not self.top:
                continue
            counts = {len(pick(entry, list, "top_logprobs")) for entry in entries}
            expect_effect(counts != {0}, "top_logprobs was accepted, and there are none")
            expect(counts == {self.top}, f"{sorted(counts)} alternatives instead of {self.top}")


streamed(
    "effects.stream.logprobs_n",
    measure=Logprobs(2, SEVERAL),
    title="In a stream with n=2, each choice has logprobs.",
    breaks="A program that ranks the choices by their probability can rank only the first.",
    name="logprobs",
    needs=LOGPROBS | N | STREAMS,
)
streamed(
    "effects.stream.logprobs",
    measure=Logprobs(0, {}),
    title="In a stream, logprobs come without top_logprobs too.",
    breaks="Programs that measure confidence get nothing from a stream.",
    needs=LOGPROBS | STREAMS,
)
streamed(
    "effects.stream.top_logprobs",
    measure=Logprobs(3, {}),
    title="In a stream, each token has as many alternatives as top_logprobs says.",
    breaks="A classifier that reads the alternatives of a streamed token misses some.",
    needs=LOGPROBS | STREAMS,
)


# ---- tools and response_format


def described(text: str, *cities: str) -> Params:
    """The parameters of a request with one tool."""
    function = {**WEATHER["function"], "description": text}
    if cities:
        parameters = {"type": "object", "properties": {"city": {"enum": list(cities)}}}
        function["parameters"] = parameters
    return {"tools": [{"type": "function", "function": function}]}


for part, with_it, without_it in (
    ("tools", described("The weather of a city."), {}),
    ("tool_description", described("The weather at sea, with wind and waves."), described("It.")),
    ("tool_parameters", described("It.", "Paris", "Lyon", "Nice"), described("It.", "Paris")),
):
    both(
        part,
        reaches(with_it, {"max_tokens": 8, **without_it}),
        f"The {part.replace('_', ' ')} of a request change what the model sees.",
        "The model does not know which functions there are, or how to call them.",
        name="tools",
        needs=TOOLS,
    )
CALLING = {"prompt": ASK_WEATHER, "tools": [WEATHER, TIME], "max_tokens": CALL_TOKENS}
ALLOWED = {
    "type": "allowed_tools",
    "allowed_tools": {
        "mode": "required",
        "tools": [{"type": "function", "function": {"name": "get_time"}}],
    },
}
both(
    "allowed_tools",
    CallsOnly(
        "get_time",
        {"tool_choice": ALLOWED},
        {**CALLING, "tool_choice": "required"},
        ALLOWED_TOOLS_DROPPED,
    ),
    "With one of two tools in allowed_tools, that tool is called.",
    "A tool that was not allowed at this point is called.",
    name="tool_choice",
    source="openai-openapi: ChatCompletionAllowedToolsChoice",
    level=OPTIONAL,
    needs=TOOLS,
)
HELLO = {**CALLING, "prompt": "Say hello."}
for choice, given, control in (
    ("named", named(TIME), {**CALLING, "tool_choice": "none"}),
    ("none", "none", {**CALLING, "tool_choice": "required"}),
    ("required", "required", {**HELLO, "tool_choice": "none"}),
):
    as_whole(
        f"tool_choice_{choice}",
        {"tool_choice": given},
        control,
        "A streamed answer calls another function than the request allows, or none.",
        name="tool_choice",
        needs=TOOLS,
    )
BOTH_TOOLS = {**CALLING, "prompt": ASK_BOTH}


def _one_call(ask: Asker, name: str) -> None:
    """Compare with the whole answer; if that does not change, count the calls by other seeds."""
    allowed, forbidden = {**BOTH_TOOLS, name: True}, {name: False}
    try:
        StreamMatches(chat, forbidden, allowed)(ask, name)
    except Unmeasured:
        expect_one_call(
            lambda attempt, *, parallel: (
                ask(**{**BOTH_TOOLS, **seeded(attempt), name: parallel}).choices[0].names
            )
        )


streamed(
    "effects.stream.parallel_tool_calls",
    measure=_one_call,
    title="parallel_tool_calls changes a streamed answer as it changes the whole one.",
    breaks="A client that handles one call at a time gets several in a stream.",
    needs=TOOLS | STREAMS,
)
as_whole(
    "response_format",
    {"response_format": {"type": "json_object"}},
    {"prompt": "What is 2 + 2? Say the number, not in JSON.", "max_tokens": 64},
    "A client that parses the streamed text as JSON fails.",
    needs={Capability.JSON_OBJECT},
)


# ---- reasoning and style


def _reasons(ask: Asker, name: str) -> None:
    """Compare an effort of none with a high one."""
    said = {effort: ask(reasoning_effort=effort) for effort in ("high", "none")}
    if not said["high"].choices[0].reasoning:
        other = Asker(ask.target, chat if ask.way is chat_stream else chat_stream)
        if other(reasoning_effort="high").choices[0].reasoning:
            where = "in whole answers" if ask.way is chat else "in streams"
            raise ignored(f"{name} {where}", "the model does not reason, while elsewhere it does")
        raise Unmeasured("this model cannot show it: it does not reason at a high effort either")
    if text := said["none"].choices[0].reasoning:
        raise ignored(name, f"with an effort of none the model still reasons: {quote(text)}")


both(
    "reasoning_effort",
    _reasons,
    "A reasoning_effort of none gives an answer without reasoning, where high gives reasoning.",
    "A program that turns reasoning off still waits and pays for it.",
    source="openai-openapi: ReasoningEffort",
    level=OPTIONAL,
    needs={Capability.REASONING},
)
both(
    "verbosity",
    reaches({"verbosity": "high"}, {"verbosity": "low", "max_tokens": 24}, counted=False),
    "A verbosity of high gives another answer than low.",
    "Answers are not as short or as long as the program asks for.",
    source="openai-openapi: Verbosity",
    level=OPTIONAL,
)


# ---- what is stored and reported


rule = partial(check, level=OPTIONAL, tier=EXTENDED, needs=STREAMS, since=SINCE)


@rule("effects.stream.service_tier", source=f"{SPEC}.service_tier")
def service_tier(target: Target) -> None:
    """A stream that asks for the default service_tier names that tier.

    A client cannot see how its request was processed, and what it costs.
    """
    tier_of(*stream_chat(target, max_tokens=4, service_tier="default"))


@rule("effects.stream.store", source=f"{SPEC}.store, metadata")
def store(target: Target) -> None:
    """A streamed answer that was stored can be retrieved by its id, with its metadata.

    An application that keeps only the ids of its conversations loses them.
    """
    given = {"purpose": "contract"}
    chunks = stream_chat(target, max_tokens=4, store=True, metadata=given)
    kept = stored(target, chunks[0].get("id"), text(chunks)).get("metadata")
    expect_effect(kept == given, f"the metadata {quote(given)} came back as {quote(kept)}")


@rule(
    "effects.stream.include_obfuscation",
    source="openai-openapi: ChatCompletionStreamOptions.include_obfuscation",
)
def include_obfuscation(target: Target) -> None:
    """With include_obfuscation the chunks have an obfuscation, and without it they have none.

    Someone who sees only the sizes of encrypted chunks can guess the text.
    """
    on, off = (
        [
            chunk
            for chunk in stream_chat(
                target, max_tokens=4, stream_options={"include_obfuscation": value}
            )
            if chunk.get("obfuscation")
        ]
        for value in (True, False)
    )
    reason = "include_obfuscation was accepted, and no chunk has an obfuscation"
    fact = either(OBFUSCATION_DROPPED, fields_dropped("/chat/completions"))
    expect_effect(on, reason, fact=fact)
    expect(not off, f"include_obfuscation is false, and a chunk has one: {quote(off)}")
    for chunk in on:
        pick(chunk, str, "obfuscation")
