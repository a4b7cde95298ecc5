"""Checks of consistency: what one answer says twice agrees, and a stream says what a whole says."""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote as url_quote

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import (
    Chunks,
    choice,
    choices,
    chunks_of,
    control,
    envelope,
    finish_reasons,
    fragments,
    need_text,
    objects,
    pick,
    tool_calls,
)
from pytest_llmengine.contract.facts import LOGPROBS_DROPPED, LOGPROBS_NOT_LEGACY
from pytest_llmengine.contract.logprob_assertions import close_to, expect_alternatives
from pytest_llmengine.contract.outcomes import Unmeasured, expect, expect_effect, quote
from pytest_llmengine.contract.registry import EXPECTED, EXTENDED, REQUIRED, check
from pytest_llmengine.contract.samples import ASK_WEATHER, CALL_TOKENS, JSON, WEATHER

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

rule = partial(check, tier=EXTENDED, group="consistency", since="2026-11-27")
SPEC = "openai-openapi: "
CHAT, COMPLETIONS, RESPONSES = "/chat/completions", "/completions", "/responses"
EMBEDDINGS = "/embeddings"
CAP = 16
_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
_MINUTE, _DAY = 60, 86_400

_HELLO = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": CAP}
_CALL = {
    "messages": [{"role": "user", "content": ASK_WEATHER}],
    "max_tokens": CALL_TOKENS,
    "tools": [WEATHER],
    "tool_choice": "required",
}
_LOGPROBS = _HELLO | {"logprobs": True, "top_logprobs": 2}
_PROMPT = "Once upon a time"
_ONCE = {"prompt": _PROMPT, "max_tokens": CAP, "logprobs": 1}
_INPUT = {"input": "Say hello.", "max_output_tokens": CAP}
_TEXTS = {"input": ["Hello", "The sea is blue."]}
_STREAMING = {Capability.STREAMING}


def _post(target: Target, path: str, body: JSON) -> Reply:
    """POST a body, at temperature 0 if the route has it."""
    sampled = {} if path == EMBEDDINGS else {"temperature": 0}
    return target.post(path, {"model": target.model, **sampled, **body})


def _chunks(target: Target, path: str, body: JSON) -> Chunks:
    return chunks_of(_post(target, path, body | _USAGE))


# ---- usage


def _usage(path: str, body: JSON, target: Target) -> JSON:
    return _counted([_post(target, path, body).success_or_refused()])


def _stream_usage(path: str, body: JSON, target: Target) -> JSON:
    events = _post(target, path, body).objects_or_refused()
    return _counted([event.get("response", event) for event in events])


def _counted(bodies: list[JSON]) -> JSON:
    """The usage in the last of these bodies, one of which must be an answer."""
    _expect_answer(*bodies)
    if not bodies[-1].get("usage"):
        raise Unmeasured("the answer has no usage")
    return pick(bodies[-1], dict, "usage")


def _expect_answer(*bodies: JSON) -> None:
    """Expect a choice, an item or a vector in one of these bodies."""
    made = [body[key] for body in bodies for key in ("choices", "output", "data") if key in body]
    expect(any(made), f"there is no answer: {quote(bodies[0])}")


# The parts of a usage in OpenAI's specification; servers add others, such as lists per turn.
_PARTS = {
    "accepted_prediction_tokens",
    "audio_tokens",
    "cache_write_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "rejected_prediction_tokens",
}


def _sums(read: Callable[[Target], JSON], target: Target) -> None:
    usage = read(target)
    given, made = ("input", "output") if "input_tokens" in usage else ("prompt", "completion")
    sizes = [pick(usage, int, f"{given}_tokens"), usage.get(f"{made}_tokens", 0)]
    total = pick(usage, int, "total_tokens")
    expect(sizes[0] > 0, f"no token of the prompt is counted: {quote(usage)}")
    expect(0 <= sizes[1] <= CAP, f"at a cap of {CAP}, {sizes[1]} tokens were made")
    expect(total == sum(sizes), f"the total is not the sum: {quote(usage)}", fact="usage sum")
    for name, size in zip((given, made), sizes, strict=True):
        details = usage.get(f"{name}_tokens_details") or {}
        for key in _PARTS & details.keys():
            count = pick(details, int, key) if details[key] is not None else 0
            expect(0 <= count <= size, f"{name}: {key} is {count} of {size} tokens")


_USAGES: dict[str, tuple[Callable[[Target], JSON], set[Capability]]] = {
    "chat": (partial(_usage, CHAT, _HELLO), set()),
    "chat.stream": (partial(_stream_usage, CHAT, _HELLO | _USAGE), _STREAMING),
    "comp": (partial(_usage, COMPLETIONS, _ONCE), {Capability.COMPLETIONS}),
    "comp.stream": (
        partial(_stream_usage, COMPLETIONS, _ONCE | _USAGE),
        {Capability.COMPLETIONS, *_STREAMING},
    ),
    "resp": (partial(_usage, RESPONSES, _INPUT), {Capability.RESPONSES}),
    "resp.stream": (
        partial(_stream_usage, RESPONSES, _INPUT | {"stream": True}),
        {Capability.RESPONSES, *_STREAMING},
    ),
    "emb": (partial(_usage, EMBEDDINGS, _TEXTS), {Capability.EMBEDDINGS}),
}
for _name, (_read, _needs) in _USAGES.items():
    rule(
        f"{_name}.usage_adds_up",
        level=EXPECTED,
        source=SPEC + ("ResponseUsage" if "resp" in _name else "CompletionUsage"),
        needs=_needs,
        title="The usage adds up, no count is below 0, and no part is larger than its whole.",
        breaks="A client's bill is wrong, and its tokens left in the context are.",
    )(partial(_sums, _read))


# ---- times and names


def _created_now(path: str, body: JSON, field: str, target: Target) -> None:
    reply = _post(target, path, body)
    created = pick(reply.success_or_refused(), float, field)
    if date := reply.headers.get("date"):
        now = parsedate_to_datetime(date).timestamp()
    else:
        target.need_direct()
        now = time.time()
    expect(abs(created - now) < _DAY, f"{field} is {created:.0f}, and it is {now:.0f} now")


_CREATED: dict[str, tuple[str, JSON, str, set[Capability]]] = {
    "chat": (CHAT, _HELLO, "created", set()),
    "comp": (COMPLETIONS, _ONCE, "created", {Capability.COMPLETIONS}),
    "resp": (RESPONSES, _INPUT, "created_at", {Capability.RESPONSES}),
}
for _name, (_path, _body, _field, _needs) in _CREATED.items():
    rule(
        f"{_name}.created_now",
        level=REQUIRED,
        source=f"{SPEC}CreateChatCompletionResponse.created",
        needs=_needs,
        title=f"The {_field} time of an answer is within a day of the present.",
        breaks="A client that sorts or expires answers by their time loses the new ones.",
    )(partial(_created_now, _path, _body, _field))


def _names_model(path: str, body: JSON, target: Target) -> None:
    found = _post(target, path, body).success_or_refused()
    _expect_answer(found)
    model = pick(found, str, "model")
    same = model == target.model or model.startswith(f"{target.model}-")
    expect(
        same, f"asked for {target.model!r}, the answer says {model!r}", fact="another model's name"
    )


for _name, _path, _body, _needs in (
    ("comp", COMPLETIONS, _ONCE, {Capability.COMPLETIONS}),
    ("emb", EMBEDDINGS, _TEXTS, {Capability.EMBEDDINGS}),
):
    rule(
        f"{_name}.model_echo",
        level=EXPECTED,
        source=f"{SPEC}CreateCompletionResponse.model",
        needs=_needs,
        title="The answer names the model that was asked for, or a dated version of it.",
        breaks="A client that has several models books the answer to another one.",
    )(partial(_names_model, _path, _body))


@rule(
    "comp.id_unique",
    level=REQUIRED,
    source=f"{SPEC}CreateCompletionResponse.id: a unique identifier",
    needs={Capability.COMPLETIONS},
    breaks="A client that keeps answers by their id overwrites one with another.",
)
def id_unique(target: Target) -> None:
    """Four completions have four ids."""
    short = _ONCE | {"max_tokens": 1}
    ids = [
        pick(_post(target, COMPLETIONS, short).success_or_refused(), str, "id") for _ in range(4)
    ]
    expect(all(ids) and len(set(ids)) == 4, f"the ids are {quote(ids)}")


@rule(
    "models.retrieve_equals_list",
    level=REQUIRED,
    source=f"{SPEC}Model",
    breaks="A client that looks a model up sees another description than in the list.",
)
def retrieve_equals_list(target: Target) -> None:
    """A model has the same description alone as in the list, and was not created in the future."""
    found = objects(target.get("/models").success(), "data")
    named = [model for model in found if model.get("id") == target.model]
    expect(len(named) < 2, f"{target.model!r} is in the list {len(named)} times")
    if not named:
        raise Unmeasured("the model is not in the list by the name that is used here")
    (model,) = named
    alone = target.get(f"/models/{url_quote(target.model, safe='')}")
    created = pick(model, int, "created")
    expect(0 <= created < 4_102_444_800, f"created is {created}, which is not a time in seconds")
    expect(bool(pick(model, str, "owned_by")), "owned_by is empty")
    body = alone.success()
    expect(body == model, f"alone it is {quote(body)}, in the list {quote(model)}")


# ---- streams


def _same_head(path: str, bodies: tuple[JSON, ...], target: Target) -> None:
    """Expect one value of each field that all chunks of a stream share."""
    for number, body in enumerate(bodies):
        reply = _post(target, path, body | _USAGE)
        if number and not reply.ok:  # a feature of its own
            continue
        chunks = chunks_of(reply)
        for field in ("id", "model", "system_fingerprint", "service_tier"):
            # A chunk without the field, or with null, says nothing of it.
            seen = list(dict.fromkeys(quote(c[field]) for c in chunks if c.get(field) is not None))
            fact = f"{field} changes in a stream"
            expect(len(seen) <= 1, f"{field} changes in a stream: {', '.join(seen)}", fact=fact)
        expect(pick(chunks[0], str, "id"), "the id is empty")
        times = [pick(chunk, int, "created") for chunk in chunks]
        expect(max(times) - min(times) < _MINUTE, f"created is {min(times)}, and {max(times)}")
        keys = {"usage" in chunk for chunk in chunks[:-1]}
        expect(len(keys) == 1, "some chunks before the last have a usage of null, and some none")
    whole = pick(_post(target, path, bodies[0]).success(), str, "model")
    named = pick(chunks[0], str, "model")
    expect(named == whole, f"the stream is of the model {named!r}, the whole of {whole!r}")


for _name, _path, _bodies, _more in (
    ("chat", CHAT, (_HELLO, _CALL), set[Capability]()),
    ("comp", COMPLETIONS, (_ONCE,), {Capability.COMPLETIONS}),
):
    rule(
        f"{_name}.stream.same_head",
        level=REQUIRED,
        source=f"{SPEC}CreateChatCompletionStreamResponse.id, .created",
        needs=_STREAMING | _more,
        title="Every chunk of a stream has the same id, model and fingerprint, and a near time.",
        breaks="A client that joins the chunks of one id takes one stream for two.",
    )(partial(_same_head, _path, _bodies))


def _equal(what: str, streamed: object, whole: object) -> None:
    same = close_to(streamed, whole)
    expect(same, f"{what} of the stream: {quote(streamed)}, of the whole: {quote(whole)}")


def _expect_same_text(streamed: str, whole: str, again: Callable[[], str]) -> None:
    """Expect the same text; unmeasured if the server does not repeat itself."""
    if streamed != whole and again() != whole:
        raise Unmeasured("the server answers differently each time, also at temperature 0")
    fact = "a stream has another text"
    expect(streamed == whole, f"streamed {streamed!r}, whole {whole!r}", fact=fact)


def _expect_same_usage(chunks: Chunks, whole: JSON) -> None:
    if not chunks[-1].get("usage") or not whole.get("usage"):
        return  # other rules are about that
    expect(sum(bool(chunk.get("usage")) for chunk in chunks) == 1, "the usage comes twice")
    one, other = _without_null(chunks[-1]["usage"]), _without_null(whole["usage"])
    caches = [_without_null(u.pop("prompt_tokens_details", {})).keys() for u in (one, other)]
    _equal("the usage", one, other)  # what is cached changes from one answer to the next
    expect(caches[0] == caches[1], f"prompt_tokens_details: {quote([list(c) for c in caches])}")


def _without_null(usage: JSON) -> JSON:
    return {key: value for key, value in usage.items() if value is not None}


def _message(entry: JSON) -> str:
    """The text of a message, and its refusal, which is not text of the model."""
    said = pick(entry, dict, "message")
    return f"{said.get('content') or ''}{said.get('refusal') or ''}"


def _chat_equals(body: JSON, target: Target) -> None:
    """A chat stream against the whole answer to the same request."""
    whole = _post(target, CHAT, body).success_or_refused()
    chunks = _chunks(target, CHAT, body)
    entries = choices(chunks)
    said = [pick(e, dict, "delta") for e in entries]
    streamed = "".join(f"{d.get('content') or ''}{d.get('refusal') or ''}" for d in said)
    _expect_same_text(
        streamed,
        _message(choice(whole)),
        lambda: _message(choice(_post(target, CHAT, body).success())),
    )
    if "tools" in body:
        _expect_same_calls(chunks, tool_calls(whole))
    _equal("the finish reason", finish_reasons(chunks), [choice(whole).get("finish_reason")])
    if body.get("logprobs"):
        given = pick(choice(whole), dict, "logprobs")
        parts = [e["logprobs"] for e in entries if e.get("logprobs")]
        tokens = [t for part in parts for t in pick(part, list, "content")]
        _equal("the logprobs", tokens, given.get("content"))
        refusals = [part["refusal"] for part in parts if part.get("refusal") is not None]
        _equal("the refusal's logprobs", refusals, [r for r in (given.get("refusal"),) if r])
    _expect_same_usage(chunks, whole)


def _expect_same_calls(chunks: Chunks, calls: list[JSON]) -> None:
    joined: dict[int, list[str]] = {}
    for fragment in fragments(chunks):
        call = joined.setdefault(pick(fragment, int, "index"), ["", ""])
        for number, key in enumerate(("name", "arguments")):
            call[number] += (fragment.get("function") or {}).get(key) or ""
    if not calls and not joined:
        raise Unmeasured("this model cannot show it: it made no tool call")
    named = [[pick(c, str, "function", key) for key in ("name", "arguments")] for c in calls]
    _equal("the calls", list(joined.values()), named)


for _name, _body, _more in (
    ("text", _HELLO, set[Capability]()),
    ("logprobs", _LOGPROBS, {Capability.LOGPROBS}),
    ("call", _CALL, {Capability.TOOLS}),
):
    rule(
        f"chat.stream.equals_whole.{_name}",
        level=EXPECTED,
        source=f"{SPEC}CreateChatCompletionStreamResponse",
        needs=_STREAMING | _more,
        title=f"At temperature 0 a stream has the {_name} of the whole, its end and its usage.",
        breaks="A client gets another answer as soon as it streams.",
    )(partial(_chat_equals, _body))


_LISTS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


@rule(
    "comp.stream.equals_whole",
    level=EXPECTED,
    source=f"{SPEC}CreateCompletionResponse",
    needs={Capability.COMPLETIONS, *_STREAMING},
    breaks="A client gets another answer as soon as it streams.",
)
def completions_equal(target: Target) -> None:
    """At temperature 0 a streamed completion has the text, logprobs and usage of the whole."""
    whole = _post(target, COMPLETIONS, _ONCE).success_or_refused()
    chunks = _chunks(target, COMPLETIONS, _ONCE)
    entries = choices(chunks)
    _expect_same_text(
        "".join(pick(entry, str, "text") for entry in entries),
        pick(choice(whole), str, "text"),
        lambda: pick(choice(_post(target, COMPLETIONS, _ONCE).success()), str, "text"),
    )
    _equal("the finish reason", finish_reasons(chunks), [choice(whole).get("finish_reason")])
    parts = [e["logprobs"] for e in entries if e.get("logprobs")]
    given = choice(whole).get("logprobs") or {}
    for name in _LISTS:
        _equal(name, [one for part in parts for one in part.get(name) or ()], given.get(name, []))
    _expect_same_usage(chunks, whole)


# ---- logprobs


@rule(
    "comp.logprobs.aligned",
    level=EXPECTED,
    source=f"{SPEC}CreateCompletionResponse.choices[].logprobs",
    needs={Capability.COMPLETIONS, Capability.LOGPROBS},
    breaks="A client that scores a text adds up the numbers of other tokens.",
)
def aligned(target: Target) -> None:
    """The lists of a completion's logprobs are equally long, and belong to its text."""
    entry = choice(_post(target, COMPLETIONS, _ONCE).success_or_refused())
    dropped = "logprobs were accepted and dropped"
    expect_effect(entry.get("logprobs"), dropped, fact=LOGPROBS_DROPPED)
    need_text(pick(entry, str, "text"))
    given = pick(entry, dict, "logprobs")
    lost = [name for name in _LISTS if name not in given]
    expect(not lost, f"logprobs have no {', '.join(lost)}", fact=LOGPROBS_NOT_LEGACY)
    tokens, values, tops, offsets = (pick(given, list, name) for name in _LISTS)
    sizes = {len(each) for each in (tokens, values, tops, offsets)}
    expect(len(sizes) == 1, f"the lists have {sorted(sizes)} entries")
    text = pick(entry, str, "text")
    expect(
        "".join(pick(token, str) for token in tokens) == text,
        f"the tokens are {quote(tokens)}, the text is {text!r}",
    )
    first = pick(offsets, int, 0)
    places = [len("".join(tokens[:number])) + first for number in range(len(tokens))]
    expect(offsets == places, f"the offsets are {quote(offsets)} instead of {quote(places)}")
    expect(first in {0, len(_PROMPT)}, f"the first offset is {first}")
    for token, value, top in zip(tokens, values, tops, strict=True):
        expect(pick(value, float) <= 0, f"the logprob of {token!r} is {value}")
        expect(token in pick(top, dict), f"{token!r} is not among its alternatives: {quote(top)}")
        own = pick(top, float, token)
        expect(close_to(own, value), f"the logprob of {token!r} is {value} and {own}")


@rule(
    "logprobs.alternatives",
    level=EXPECTED,
    source=f"{SPEC}ChatCompletionTokenLogprob.top_logprobs",
    needs={Capability.LOGPROBS},
    breaks="A client that reads the alternatives of a token, as a classifier does, reads others.",
)
def alternatives(target: Target) -> None:
    """At temperature 0 the first alternative is the token, and bytes are the text of a token."""
    body = _post(target, CHAT, _LOGPROBS).success_or_refused()
    expect_effect(choice(body).get("logprobs"), "logprobs were accepted and dropped")
    expect_alternatives(objects(choice(body), "logprobs", "content"))


# ---- errors


@rule(
    "err.param_named",
    level=EXPECTED,
    source=f"{SPEC}Error.param: param names the field of the request",
    breaks="A client marks another field of its form as wrong.",
)
def param_named(target: Target) -> None:
    """If an error has a param, it names the field that is wrong."""
    control(target)
    wrong: dict[str, Any] = {"messages": ..., "temperature": "hot", "max_tokens": "many"}
    for name, value in wrong.items():
        reply = target.chat(**{"max_tokens": 1, name: value})
        expect_effect(not reply.ok, f"{name}={value!r} was accepted with 200")
        param = envelope(reply, f"a wrong {name}").get("param")
        named = param is None or name in re.split(r"\W+", str(param))
        expect(named, f"a wrong {name}: param is {quote(param)}")
