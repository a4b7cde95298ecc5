"""Checks of resp.effect: each parameter of the responses API has an effect, whole and streamed."""

from __future__ import annotations

import json
from base64 import b64decode
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import (
    LONG,
    answered_response,
    create_response,
    items,
    need_text,
    objects,
    output_text,
    pick,
    respond,
    stream_response,
)
from pytest_llmengine.contract.facts import (
    INCLUDE_DROPPED,
    OBFUSCATION_DROPPED,
    either,
    fields_dropped,
)
from pytest_llmengine.contract.outcomes import (
    Ignored,
    Refused,
    Unmeasured,
    expect,
    expect_effect,
    quote,
)
from pytest_llmengine.contract.registry import EXTENDED, OPTIONAL, REQUIRED, check
from pytest_llmengine.contract.response_assertions import (
    MODES,
    REASONING,
    answer,
    expect_larger,
    final,
    input_tokens,
    mode,
    output_items,
)
from pytest_llmengine.contract.samples import (
    CALL_TOKENS,
    COLOUR,
    COLOUR_SCHEMA,
    FOREIGN,
    JSON,
    object_of,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="responses.effects", tier=EXTENDED, since="2026-11-27", level=REQUIRED)
SPEC = "openai-openapi: CreateResponse"
NEEDS = {Capability.RESPONSES}


@rule(
    "resp.effect.instructions",
    source=f"{SPEC}.instructions",
    needs=NEEDS,
    breaks="The system prompt of an application is lost.",
)
def instructions(target: Target) -> None:
    """Longer instructions make a larger prompt, whole and streamed."""
    for stream in MODES:
        short, long = (
            answer(target, "Hi", stream=stream, instructions=text)
            for text in ("Be brief.", "Be brief. " * 20)
        )
        what = f"{mode(stream)}: longer instructions"
        expect_larger(target, short, long, what, "instructions are dropped")


_HI: JSON = {"role": "user", "content": "Hi"}


def _called(arguments: str = "{}", output: str = "sunny") -> list[JSON]:
    """A call with its output, because a call without one is refused."""
    call = {"call_id": "call_contract", "name": "get_weather", "arguments": arguments}
    return [
        _HI,
        {"type": "function_call", **call},
        {"type": "function_call_output", "call_id": "call_contract", "output": output},
    ]


def _assistant(content: object) -> JSON:
    ids = {"id": "msg_contract", "status": "completed"} if isinstance(content, list) else {}
    return {"type": "message", "role": "assistant", "content": content, **ids}


def _user(text: str) -> JSON:
    return {"role": "user", "content": [{"type": "input_text", "text": text}]}


_LONG_TEXT = "The sea is blue. " * 5
_TEXTS = ("Hello.", _LONG_TEXT)
# Inputs that differ in one item: the second has it, or has it with a longer text.
_INPUTS: dict[str, tuple[str, list[list[JSON]]]] = {
    "system": ("A system message", [[_HI], [{"role": "system", "content": _LONG_TEXT}, _HI]]),
    "developer": (
        "A developer message",
        [[_HI], [{"role": "developer", "content": _LONG_TEXT}, _HI]],
    ),
    "input_text": ("A text part", [[_user(t)] for t in _TEXTS]),
    "assistant": ("An answer as a string", [[_HI, _assistant(t), _HI] for t in _TEXTS]),
    "output_message": (
        "An answer as an output message",
        [
            [_HI, _assistant([{"type": "output_text", "text": t, "annotations": []}]), _HI]
            for t in _TEXTS
        ],
    ),
    "refusal": (
        "A refusal",
        [[_HI, _assistant([{"type": "refusal", "refusal": t}]), _HI] for t in _TEXTS],
    ),
    "function_call": ("A function call", [_called(), _called(json.dumps({"city": _LONG_TEXT}))]),
    "function_call_output": (
        "The output of a function call",
        [_called(), _called(output=_LONG_TEXT)],
    ),
}


def _item_is_read(name: str, target: Target) -> None:
    item, inputs = _INPUTS[name]
    for stream in MODES:
        one, two = (answer(target, given, stream=stream) for given in inputs)
        expect_larger(target, one, two, f"{mode(stream)}: {item}", f"{name} items are dropped")


for _name, (_item, _) in _INPUTS.items():
    rule(
        f"resp.input.{_name}",
        title=f"{_item} in the input is part of the prompt, whole and streamed.",
        breaks="The model answers without a part of the conversation that the client sent.",
        source=f"{SPEC}.input; openai-openapi: InputItem",
        needs=NEEDS,
    )(partial(_item_is_read, _name))


@rule(
    "resp.effect.max_output_tokens",
    source=f"{SPEC}.max_output_tokens",
    needs=NEEDS,
    breaks="An answer costs more tokens than the client allowed.",
)
def max_output_tokens(target: Target) -> None:
    """An answer has at most max_output_tokens, whole and streamed."""
    for stream in MODES:
        body = answer(target, LONG, stream=stream)
        made = pick(body, int, "usage", "output_tokens") if body.get("usage") else None
        words = len(output_text(body).split())
        if max(made or 0, words) > 16:
            raise Ignored(
                f"{mode(stream)}: max_output_tokens is 16, and there are {made} tokens in {words} "
                "words",
                fact="max_output_tokens is dropped",
            )
        if made is not None and made < 16:
            raise Unmeasured(f"this model cannot show it: a story of {made} tokens")


@rule(
    "resp.effect.json_schema",
    source="openai-openapi: TextResponseFormatJsonSchema",
    needs=NEEDS | {Capability.JSON_SCHEMA},
    breaks="responses.parse of the openai SDK raises, because the text does not fit the schema.",
)
def json_schema(target: Target) -> None:
    """With text.format json_schema the text fits the schema, whole and streamed."""
    wanted = {"type": "json_schema", "name": "colour", "strict": True, "schema": COLOUR_SCHEMA}
    for stream in MODES:
        body = answer(target, stream=stream, text={"format": wanted}, max_output_tokens=CALL_TOKENS)
        if _json(need_text(output_text(answered_response(body)))) != COLOUR:
            reason = f"{mode(stream)}: the text is {quote(output_text(body))}"
            raise Ignored(reason, fact="text.format is dropped")


@rule(
    "resp.text.exact",
    source="openai-openapi: OutputTextContent.text",
    needs=NEEDS | {Capability.JSON_SCHEMA},
    breaks="Names and texts in many languages lose letters on their way to the client.",
)
def exact_text(target: Target) -> None:
    """A text with accents, other scripts, emoji and two spaces arrives whole, in both modes."""
    schema = object_of({"word": {"type": "string", "enum": [FOREIGN]}})
    wanted = {"type": "json_schema", "name": "word", "strict": True, "schema": schema}
    for stream in MODES:
        body = answer(target, stream=stream, text={"format": wanted}, max_output_tokens=CALL_TOKENS)
        found = _json(need_text(output_text(body)))
        if not isinstance(found, dict) or not isinstance(word := found.get("word"), str):
            reason = f"{mode(stream)}: the text is {quote(output_text(body))}"
            raise Ignored(reason, fact="text.format is dropped")
        expect(word == FOREIGN, f"{mode(stream)}: {FOREIGN!r} is allowed, and {word!r} came")


@rule(
    "resp.effect.json_object",
    source="openai-openapi: ResponseFormatJsonObject",
    needs=NEEDS | {Capability.JSON_SCHEMA},
    breaks="A client that parses the text as JSON fails.",
)
def json_object(target: Target) -> None:
    """With text.format json_object the text is a JSON object, whole and streamed."""
    prompt = "Write a poem about the sea. Write no JSON."
    for stream in MODES:
        body = answer(
            target,
            prompt,
            stream=stream,
            text={"format": {"type": "json_object"}},
            max_output_tokens=CALL_TOKENS,
        )
        text = need_text(output_text(answered_response(body))).strip()
        cut = (
            pick(body, int, "usage", "output_tokens") >= CALL_TOKENS if body.get("usage") else False
        )
        if not (text.startswith("{") if cut else isinstance(_json(text), dict)):
            reason = f"{mode(stream)}: the text is {quote(text)}"
            raise Ignored(reason, fact="text.format is dropped")


def _json(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        return None
    return value


@rule(
    "resp.effect.include",
    source=f"{SPEC}.include",
    needs=NEEDS | {Capability.LOGPROBS},
    breaks="A client that scores answers by their logprobs gets none.",
)
def include_logprobs(target: Target) -> None:
    """With include, the text has its logprobs, whole and streamed."""
    for stream in MODES:
        body, entries = _logprobs(target, stream=stream)
        joined = "".join(pick(entry, str, "token") for entry in entries)
        text = output_text(body)
        expect(joined == text, f"{mode(stream)}: the tokens are {joined!r}, the text is {text!r}")


@rule(
    "resp.effect.top_logprobs",
    source=f"{SPEC}.top_logprobs",
    needs=NEEDS | {Capability.LOGPROBS},
    breaks="A client that compares alternatives of a token gets too few of them.",
)
def top_logprobs(target: Target) -> None:
    """top_logprobs gives so many alternatives per token, whole and streamed."""
    for stream in MODES:
        _, entries = _logprobs(target, stream=stream, top_logprobs=2)
        counts = {len(objects(entry, "top_logprobs")) for entry in entries}
        if counts != {2}:
            reason = f"{mode(stream)}: top_logprobs is 2, and there are {counts} alternatives"
            raise Ignored(reason, fact="top_logprobs is dropped")


def _logprobs(target: Target, *, stream: bool, **params: Any) -> tuple[JSON, list[JSON]]:
    """A response and its logprobs; in a stream those of the deltas count."""
    asked = {"include": ["message.output_text.logprobs"], **params}
    if stream:
        events = stream_response(target, **asked)
        body = final(events)
        parts = [e for e in events if e["type"] == "response.output_text.delta"]
    else:
        body = respond(target, **asked)
        parts = [p for item in items(body, "message") for p in objects(item, "content")]
    entries = [entry for part in parts for entry in part.get("logprobs") or ()]
    if not output_text(body):
        raise Unmeasured("this model cannot show it: its answer has no text")
    if not entries:
        fact = either(INCLUDE_DROPPED, fields_dropped("/responses"))
        raise Ignored(f"{mode(stream)}: there are no logprobs", fact=fact)
    return body, entries


# ---- reasoning


@rule(
    "resp.effect.reasoning",
    level=OPTIONAL,
    source=f"{SPEC}.reasoning",
    needs=NEEDS | {Capability.REASONING},
    breaks="A client cannot switch reasoning off, and pays for it.",
)
def reasoning_effort(target: Target) -> None:
    """reasoning.effort none switches off the reasoning of a high effort, whole and streamed."""
    for stream in MODES:
        high, none = (
            answer(target, stream=stream, max_output_tokens=64, reasoning={"effort": effort})
            for effort in ("high", "none")
        )
        if not items(high, "reasoning"):
            raise Unmeasured("this model cannot show it: it does not reason")
        if items(none, "reasoning"):
            reason = f"{mode(stream)}: the effort none gives reasoning too"
            raise Ignored(reason, fact="reasoning.effort is dropped")


@rule(
    "resp.effect.summary",
    level=OPTIONAL,
    source="openai-openapi: Reasoning.summary",
    needs=NEEDS | {Capability.REASONING},
    breaks="A client that shows a summary of the reasoning shows nothing.",
)
def reasoning_summary(target: Target) -> None:
    """reasoning.summary gives a summary with the reasoning, whole and streamed."""
    asked = {**REASONING, "reasoning": {"effort": "low", "summary": "auto"}}
    for stream in MODES:
        body = answer(target, stream=stream, **asked)
        for item in output_items(body, "reasoning", "it does not reason"):
            if not objects(item, "summary"):
                reason = f"{mode(stream)}: there is no summary"
                raise Ignored(reason, fact="reasoning.summary is dropped")


@rule(
    "resp.effect.encrypted",
    level=OPTIONAL,
    source="openai-openapi: IncludeEnum; openai-openapi: ReasoningItem.encrypted_content",
    needs=NEEDS | {Capability.REASONING},
    breaks="A client without stored responses cannot pass reasoning on to the next turn.",
)
def encrypted_content(target: Target) -> None:
    """With include, each reasoning item has its encrypted_content, whole and streamed."""
    for stream in MODES:
        for item in _encrypted(target, stream=stream):
            if not item.get("encrypted_content"):
                reason = f"{mode(stream)}: there is no encrypted_content"
                own = "include reasoning.encrypted_content is dropped"
                raise Ignored(reason, fact=either(own, INCLUDE_DROPPED))


@rule(
    "resp.reasoning.opaque",
    source="openai-openapi: ReasoningItem.encrypted_content",
    needs=NEEDS | {Capability.REASONING},
    breaks="A client that stores encrypted_content stores the reasoning in plain text.",
)
def encrypted_is_opaque(target: Target) -> None:
    """encrypted_content is not the reasoning in plain text, whole and streamed."""
    for stream in MODES:
        found = [item.get("encrypted_content") for item in _encrypted(target, stream=stream)]
        if not any(found):
            raise Unmeasured("this model cannot show it: there is no encrypted_content")
        for content in filter(None, found):
            readable = _is_readable(pick(content, str))
            expect(not readable, f"{mode(stream)}: it can be read: {quote(content)}")


def _is_readable(content: str) -> bool:
    """Whether a text, or what it is in Base64, has several words."""
    texts = [content]
    with suppress(ValueError):
        texts.append(b64decode(content).decode())
    return any(sum(word.isalpha() for word in text.split()) > 3 for text in texts)


def _encrypted(target: Target, *, stream: bool) -> list[JSON]:
    asked = {**REASONING, "include": ["reasoning.encrypted_content"], "store": False}
    body = answer(target, stream=stream, **asked)
    return output_items(body, "reasoning", "it does not reason")


# ---- the context and the stream

_FILLER = [{"role": "user", "content": "a " * 500} for _ in range(40)]
_TOO_LONG = [*_FILLER, {"role": "user", "content": "Say hello."}]


@rule(
    "resp.effect.truncation",
    level=OPTIONAL,
    source=f"{SPEC}.truncation",
    needs=NEEDS,
    heavy=True,
    breaks="A long conversation ends with an error, or loses its beginning without being asked.",
)
def truncation(target: Target) -> None:
    """With truncation auto, the first items of an input that is too long are left out."""
    for stream in MODES:
        refused = create_response(target, _TOO_LONG, truncation="disabled", stream=stream)
        if refused.ok:
            read = input_tokens(answer(target, _TOO_LONG, truncation="disabled", stream=stream))
            if read < 20_000:
                raise Ignored(f"{mode(stream)}: of 20000 words {read} tokens were read")
            raise Unmeasured("the context holds 20000 words")
        reply = create_response(target, _TOO_LONG, truncation="auto", stream=stream)
        if reply.is_refusal:
            _expect_read(refused, reply, stream=stream)
            reason = f"{mode(stream)}: truncation auto: {reply.status} {quote(reply.text)}"
            raise Refused(reason, fact=reply.cause)
        reply.objects() if stream else reply.success()


def _expect_read(disabled: Reply, auto: Reply, *, stream: bool) -> None:
    """End as ignored if both values of truncation get one error, which is about the length."""
    message = auto.error_message
    if (auto.status, message) == (disabled.status, disabled.error_message):
        reason = f"{mode(stream)}: truncation auto gets the error of disabled: {quote(message)}"
        fact = either("truncation is dropped", fields_dropped("/responses"))
        expect_effect("truncation" in message, reason, fact=fact)


@rule(
    "resp.stream.obfuscation",
    level=OPTIONAL,
    source="openai-openapi: ResponseStreamOptions.include_obfuscation",
    needs=NEEDS | {Capability.STREAMING},
    breaks="Someone who watches the encrypted connection learns the length of each token.",
)
def obfuscation(target: Target) -> None:
    """stream_options.include_obfuscation adds random characters to each delta, or none."""
    for wanted in (True, False):
        events = stream_response(target, stream_options={"include_obfuscation": wanted})
        deltas = [event for event in events if event["type"] == "response.output_text.delta"]
        if not output_text(final(events)):
            raise Unmeasured("this model cannot show it: its answer has no text")
        if not deltas or not all(("obfuscation" in delta) is wanted for delta in deltas):
            reason = f"include_obfuscation={wanted}: the deltas are {quote(deltas)}"
            fact = either(OBFUSCATION_DROPPED, fields_dropped("/responses"))
            raise Ignored(reason, fact=fact)
