"""Checks of conc: requests at the same time do not affect each other."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

from llmengine.mock.json_fields import integer, items, mapping, text
from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import (
    choice,
    chunks_of,
    control,
    finish_reasons,
    objects,
    output_text,
    pick,
)
from pytest_llmengine.contract.history import NOTHING_KNOWN, TaggedAnswer, delay, leaks, signals
from pytest_llmengine.contract.jobs import at_once, in_order
from pytest_llmengine.contract.outcomes import (
    CheckEnded,
    NoVerdict,
    Unmeasured,
    expect,
    fail,
    quote,
)
from pytest_llmengine.contract.registry import CORE, EXTENDED, QUIRK, check
from pytest_llmengine.contract.samples import constrained_to, function, named
from pytest_llmengine.contract.target import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmengine.contract.history import Signals
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="conc")

SOURCE = "redis/redis-py#2665: how ChatGPT showed users the data of others"
SPEC = "openai-openapi: CreateChatCompletionResponse"
FACT = "callers get the answers of others"
BREAKS = "One user reads what another user asked and was told, and acts on it."
SEED = 11


@dataclass(slots=True)
class Form:
    """One form of a request; ``params`` are its parameters besides those that hold the tag.

    ``holds`` is where the tag is, or the other route of which it is the prompt. ``alone`` are the
    lengths of the prompts that are sent one by one.
    """

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    holds: str = "prompt"
    alone: tuple[int, ...] = (1, 1)

    @property
    def path(self) -> str:
        """The route of the request."""
        return PATHS.get(self.holds, "/chat/completions")


PATHS = {"completion": "/completions", "response": "/responses"}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
TWO = {"n": 2, "temperature": 0.1}  # vLLM refuses two choices at temperature 0
LENGTHS = (2, 1, 3, 1, 2)
LOGPROBS = {"logprobs": True, "top_logprobs": 1}
FEW = (
    Form("answers", alone=LENGTHS),
    Form("streams", STREAM, alone=LENGTHS),
    Form("answers with a schema", {}, "schema"),
    Form("completions", {}, "completion"),
    Form("responses", {}, "response"),
)
ALL = (
    *FEW,
    Form("streams with a schema", STREAM, "schema"),
    Form("two choices", TWO),
    Form("streams of two choices", STREAM | TWO),
    Form("answers with log-probabilities", LOGPROBS),
    Form("streams with log-probabilities", STREAM | LOGPROBS),
    Form("tool calls", {}, "tool"),
    Form("streams of tool calls", STREAM, "tool"),
)


@rule(
    "conc.isolation",
    level=QUIRK,
    tier=CORE,
    source="RFC 9110 3.3: each request is handled by itself",
    breaks=BREAKS,
)
def isolation(target: Target) -> None:
    """Each request gets its own answer, one by one and twelve at once.

    One user reads the answer to another user's prompt.
    """
    _Run(target, FEW).judge(12)


@rule(
    "conc.isolation.load",
    level=QUIRK,
    tier=EXTENDED,
    source=SOURCE,
    since="2026-11-27",
    breaks=BREAKS,
    alone=True,
    heavy=True,
)
def isolation_load(target: Target) -> None:
    """Of up to 240 requests in all forms, of which a quarter is cancelled, each gets its answer."""
    target.need_direct()
    with target.kept_alive(most=16):
        _Run(target, ALL).judge(240, cancelled=0.25, seconds=60.0)


@rule(
    "conc.unique_ids",
    level=QUIRK,
    tier=EXTENDED,
    source="openai-openapi: CreateChatCompletionResponse.id: unique identifier",
)
def unique_ids(target: Target) -> None:
    """Four answers given at once have four ids.

    Logs and traces that use the id as a key mix up two answers.
    """
    ids = at_once([partial(_id, target)] * 4)
    expect(all(ids), "an id is empty")
    expect(len(set(ids)) == len(ids), f"an id came twice: {', '.join(sorted(ids))}")


@rule(
    "conc.stream_and_json_mixed",
    level=QUIRK,
    tier=EXTENDED,
    source="RFC 9110 3.3: each request is handled by itself",
    needs={Capability.STREAMING},
)
def stream_and_json_mixed(target: Target) -> None:
    """Streams and whole answers at the same time all come to their end.

    A client waits until its own time-out for the end of an answer that is complete.
    """
    reasons = at_once([partial(_end_of_stream, target), partial(_end_of_answer, target)] * 2)
    open_ended = [number for number, reason in enumerate(reasons) if not reason]
    expect(not open_ended, f"answers without a finish_reason: {open_ended} of {len(reasons)}")


def _id(target: Target) -> str:
    return pick(target.chat(max_tokens=4).success(), str, "id")


def _end_of_stream(target: Target) -> object:
    reply = target.chat(max_tokens=8, stream=True)
    if reply.cut:
        fail("a stream broke off")
    return finish_reasons(chunks_of(reply))


def _end_of_answer(target: Target) -> object:
    return choice(target.chat(max_tokens=8).success()).get("finish_reason")


class _Run:
    """Tagged requests to one target, first alone and then at once, and their history."""

    def __init__(self, target: Target, forms: Sequence[Form]) -> None:
        self.target = target
        self.forms = forms
        self.random = random.Random(SEED)  # noqa: S311  # nosec B311 - repeatable on purpose
        self.tags = map(str, self.random.sample(range(100_000, 1_000_000), 600))
        self.history: list[TaggedAnswer] = []
        self.replies: dict[int, Reply] = {}

    def judge(self, most: int, *, cancelled: float = 0.0, seconds: float = 30.0) -> None:
        """Send the requests, at most so many at once, and judge the whole history."""
        control(self.target)
        began = self.target.seconds
        for form in self.forms:
            self._send_alone(form)
        alone = list(self.history)
        self._expect_own(NOTHING_KNOWN)
        late = delay(alone)
        expect(not late, f"the prompt_tokens are those of the request {late} before", fact=FACT)
        known = signals(alone)
        if not known:
            raise Unmeasured(
                "this model cannot show it: no answer that came alone holds the tag that it must "
                "hold, and the prompt_tokens do not grow with the prompt"
            )
        pace = (self.target.seconds - began) / len(alone)
        seconds = min(seconds, (self.target.may_take - self.target.seconds) / 3)
        number = max(12, min(most, int(seconds / max(pace, 0.001))))
        forms = [f for f in self.forms if f.name in known.forms] or self.forms
        jobs = []
        for i, form in zip(range(number), cycle(forms), strict=False):
            reading = self._reading(cancelled, pace, seconds)
            jobs.append(partial(self._ask, form, 1 + i % 3, next(self.tags), reading))
        errors = [error for error in in_order(jobs, max(12, number * 2 // 3)) if error]
        self._expect_own(known)
        if len(errors) > number // 2:
            raise Unmeasured(
                f"{len(errors)} of {number} requests got no answer: {quote(str(errors[0]))}"
            )
        self.target.keep_exchanges(())

    def _send_alone(self, form: Form) -> None:
        for length in form.alone:
            if (error := self._ask(form, length, next(self.tags), Reading())) is not None:
                if isinstance(error, NoVerdict):
                    raise error
                return  # this server does not answer requests of this form

    def _reading(self, cancelled: float, pace: float, seconds: float) -> Reading:
        """How the next client reads: some go away after a few chunks, soon, or at any time."""
        if self.random.random() >= cancelled:
            return Reading()
        moments = (
            Reading(chunks=self.random.randint(1, 3)),
            Reading(seconds=self.random.uniform(0, 2 * pace)),
            Reading(seconds=self.random.uniform(0, seconds)),
        )
        return self.random.choice(moments)

    def _ask(self, form: Form, length: int, tag: str, reading: Reading) -> CheckEnded | None:
        """Send a request and add its answer to the history; returns what prevented it."""
        body = _body(self.target, form, tag, length)
        try:
            reply = self.target.post(form.path, body, reading=reading, patient=False)
            answer = _read(reply, form, tag, length)
        except CheckEnded as error:
            return error
        self.replies[reply.number] = reply
        self.history.append(answer)
        return None

    def _expect_own(self, known: Signals) -> None:
        """Expect that each answer of the history is the one to its request."""
        found = leaks(sorted(self.history, key=lambda answer: answer.number), known)
        if not found:
            return
        self.target.keep_exchanges([self.replies[leak.answer.number] for leak in found])
        answer = found[0].answer
        fail(
            f"an answer {found[0].reason}: {quote(answer.form)} with the tag {answer.tag!r} got "
            f"{quote(self.replies[answer.number].text)}; {len(found)} of {len(self.history)} "
            f"answers are wrong, as {quote(str(known))} show",
            fact=FACT,
        )


def _body(target: Target, form: Form, tag: str, length: int) -> dict[str, Any]:
    """The body of a request whose answer must hold the tag."""
    prompt = f"Repeat exactly: {' '.join([tag] * length)}"
    if form.holds == "completion":
        return {"model": target.model, "prompt": prompt, "temperature": 0, "max_tokens": 16}
    if form.holds == "response":
        return {"model": target.model, "input": prompt, "temperature": 0, "max_output_tokens": 48}
    params: dict[str, Any] = {"max_tokens": 48, **form.params}
    code = {"code": {"type": "string", "enum": [tag]}}
    if form.holds == "schema":
        prompt = "Save a code."
        schema = {"type": "object", "properties": code, "required": ["code"]}
        params["response_format"] = constrained_to(schema | {"additionalProperties": False})
    if form.holds == "tool":
        prompt = "Save a code."
        tool = function("save_code", "Saves a code.", code)
        params |= {"tools": [tool], "tool_choice": named(tool)}
    return target.chat_body(prompt, **params)


def _read(reply: Reply, form: Form, tag: str, length: int) -> TaggedAnswer:
    """What came, as far as it came; raises CheckEnded for what is not an answer."""
    if form.holds == "response":
        body = reply.success()
        return TaggedAnswer(reply.number, tag, form.name, length, (output_text(body),))
    chunks = _objects(reply, streamed="stream" in form.params)
    entries = [entry for chunk in chunks for entry in objects(chunk, "choices")]
    indexes = sorted({pick(entry, int, "index") for entry in entries})
    by_index = [[e for e in entries if e["index"] == index] for index in indexes]
    parts = [[mapping(e.get("message", e.get("delta", e))) for e in own] for own in by_index]
    texts = tuple("".join(text(p.get("content", p.get("text"))) for p in own) for own in parts)
    calls = [mapping(c) for own in parts for part in own for c in items(part.get("tool_calls"))]
    arguments = "".join(text(mapping(call.get("function")).get("arguments")) for call in calls)
    ends = [entry.get("finish_reason") for entry in entries]
    counts = [integer(mapping(chunk.get("usage")).get("prompt_tokens")) for chunk in chunks]
    return TaggedAnswer(
        reply.number,
        tag,
        form.name,
        length,
        texts=() if form.holds == "tool" else texts,
        arguments=(arguments,) if arguments else (),
        logprobs=tuple(filter(None, map(_tokens, by_index))),
        ids=tuple(text(chunk.get("id")) for chunk in chunks),
        prompt_tokens=next((n for n in counts if n is not None), None),
        ended=not reply.left and not reply.cut and None not in ends[-1:] and "length" not in ends,
        forced=form.holds in {"schema", "tool"},
    )


def _tokens(entries: Sequence[dict[str, Any]]) -> str:
    """The tokens of the log-probabilities of one choice, joined."""
    rows = [row for e in entries for row in items(mapping(e.get("logprobs")).get("content"))]
    return "".join(text(mapping(row).get("token")) for row in rows)


def _objects(reply: Reply, *, streamed: bool) -> list[dict[str, Any]]:
    """The JSON objects of an answer; of one that the client left, those that came whole."""
    if not reply.left:
        return chunks_of(reply) if streamed else [reply.success()]
    found = []
    for data in [e.data for e in reply.events] if streamed else [reply.text]:
        with suppress(ValueError):
            found.append(json.loads(data))
    return [value for value in found if isinstance(value, dict)]
