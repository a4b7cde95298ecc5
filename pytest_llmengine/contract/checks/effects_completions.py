"""Checks of effects.completions: what the fields of a text completion change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import pick, rejected
from pytest_llmengine.contract.checks.effects import (
    HOT,
    ONE_TOKEN,
    SEVERAL,
    SINCE,
    ChoiceCount,
    Measurement,
    Repeats,
    StartsWith,
    TextChanges,
    TokensAtMost,
    Without,
    effect,
    ignored,
    reaches,
)
from pytest_llmengine.contract.facts import (
    BEST_OF_NOT_COUNTED,
    LOGPROBS_NOT_LEGACY,
    OBFUSCATION_DROPPED,
    either,
    fields_dropped,
)
from pytest_llmengine.contract.observations import (
    START,
    Asker,
    Params,
    completion,
    completion_stream,
)
from pytest_llmengine.contract.outcomes import Unmeasured, expect, expect_effect, fail, quote
from pytest_llmengine.contract.registry import EXPECTED, EXTENDED, OPTIONAL, check
from pytest_llmengine.contract.samples import FOREIGN

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

SPEC = "openai-openapi: CreateCompletionRequest"
NEEDS = {Capability.COMPLETIONS}


def row(name: str, measure: Measurement, title: str, breaks: str, **columns: Any) -> None:
    """A row for whole completions."""
    field = columns.pop("field", name)
    needs = NEEDS | frozenset(columns.pop("needs", ()))
    effect(
        f"effects.completions.{name}",
        columns.pop("way", completion),
        measure,
        title,
        breaks,
        name=field,
        source=f"{SPEC}.{field}",
        needs=needs,
        **columns,
    )


def both(name: str, measure: Measurement, title: str, breaks: str, **columns: Any) -> None:
    """A row for whole completions, and the same row for streams."""
    row(name, measure, title, breaks, **columns)
    in_stream = f"In a stream, {title[0].lower()}{title[1:]}"
    columns["needs"] = {Capability.STREAMING, *columns.get("needs", ())}
    field = columns.pop("field", name)
    row(
        f"stream_{name}",
        measure,
        in_stream,
        breaks,
        way=completion_stream,
        field=field,
        **columns,
    )


# ---- chance, penalties and biases

both(
    "temperature",
    Repeats({"temperature": 0}, HOT, {**HOT, "top_p": ONE_TOKEN}),
    "A temperature of 0 gives the same text each time, and 1.5 gives others.",
    "A program that relies on repeatable texts gets random ones.",
)
both(
    "top_p",
    Repeats({**HOT, "top_p": ONE_TOKEN}, HOT, {"temperature": 0}),
    "A tiny top_p gives the same text each time, even at temperature 1.5.",
    "Unlikely tokens that a program wants to exclude are sampled.",
)
both(
    "seed",
    Repeats({"temperature": 1, "seed": 7}, {"temperature": 1}, {"temperature": 0}),
    "The same seed gives the same text, and other seeds give others.",
    "A text cannot be repeated for a test or a bug report.",
    level=OPTIONAL,
    needs={Capability.SEED},
)
for penalty in ("frequency_penalty", "presence_penalty"):
    both(
        penalty,
        TextChanges({penalty: 2}, {penalty: -2, "max_tokens": 32}, words=12),
        f"A {penalty} of 2 gives another text than one of -2.",
        "A program that sets a penalty against loops still gets them.",
    )
both(
    "logit_bias",
    TextChanges({"logit_bias": {"100": 100}}, {"max_tokens": 4}),
    "A logit_bias of 100 for one token changes the text.",
    "A classifier that allows only some tokens gets any text.",
    needs={Capability.LOGIT_BIAS},
)


# ---- limits, stop sequences and choices

both(
    "max_tokens",
    TokensAtMost(4),
    "The text has no more tokens than max_tokens.",
    "A text costs more, and takes longer, than the client allowed.",
)
both(
    "stop",
    Without(" ", {"stop": " "}, {"max_tokens": 16}),
    "The text ends before a stop sequence.",
    "A parser runs past the end that it asked for.",
)
both(
    "n",
    ChoiceCount(2, {**SEVERAL, "max_tokens": 4}),
    "An n of 2 gives two choices, with the indexes 0 and 1.",
    "A program that samples several texts gets one.",
    needs={Capability.N},
)
row(
    "n_per_prompt",
    ChoiceCount(4, {**SEVERAL, "prompt": ["Once", "The sea"], "max_tokens": 4}),
    "An n of 2 for two prompts gives four choices, with the indexes from 0 to 3.",
    "The texts of a batch are given to the wrong prompts.",
    field="n",
    needs={Capability.N},
)


def _default_limit(ask: Asker, name: str) -> None:
    """A list of numbers goes on until the stop sequence, if no other limit ends it."""
    counting = {"prompt": "1, 2, 3, 4,", "stop": [" 30", "\n"]}
    seen = ask(max_tokens=..., **counting)
    came = seen.tokens("completion_tokens")
    if came is None:
        raise Unmeasured("the answer has no usage")
    if came > 16:
        fail(f"without {name}, {came} tokens came instead of 16", fact="no default limit")
    cut = seen.choices[0].finish_reason == "length"
    expect(came == 16 or not cut, f"without {name}, the text was cut after {came} tokens")
    if (more := ask(max_tokens=32, **counting).tokens("completion_tokens") or 0) <= 16:
        raise Unmeasured(f"this model cannot show it: it stopped after {more} tokens")


row(
    "default_max_tokens",
    _default_limit,
    "A text has 16 tokens if there is no max_tokens.",
    "A request without a limit runs until the context is full.",
    field="max_tokens",
    level=EXPECTED,
)


# ---- the prompt

both(
    "echo",
    StartsWith(START, {"echo": True}, {"max_tokens": 4}),
    "With echo the text begins with the prompt.",
    "A program that scores its own prompt, as evaluations do, reads the wrong text.",
    level=OPTIONAL,
)
both(
    "echo_beyond_ascii",
    StartsWith(FOREIGN, {"echo": True}, {"max_tokens": 4, "prompt": FOREIGN}),
    "With echo, accents, other scripts, emoji and two spaces come back as they were sent.",
    "Texts in many languages lose letters on their way to the model or to the client.",
    field="echo",
    level=OPTIONAL,
)
both(
    "suffix",
    reaches({"suffix": " And so the old ship came home at last."}, counted=False),
    "A suffix changes what the model sees.",
    "An editor that completes code in the middle of a file gets text that does not fit.",
    level=OPTIONAL,
)


def _raw(ask: Asker, name: str) -> None:
    """One word has few tokens, unless a chat template adds some."""
    one, many = (
        ask(prompt=" ".join(["Hello"] * times), max_tokens=1).tokens("prompt_tokens")
        for times in (1, 20)
    )
    if one is None or many is None or many <= one:
        raise Unmeasured(f"the usage does not count the prompt: {one} tokens, then {many}")
    expect(one <= 4, f"{name} {quote('Hello')} has {one} tokens, as if it were a chat")


row(
    "raw_prompt",
    _raw,
    "The prompt is not put into a chat template.",
    "A base model's prompt, or one with a template of its own, is answered as a chat message.",
    field="prompt",
    level=EXPECTED,
)


def _own_prompt(ask: Asker, _: str) -> None:
    """Compare the texts of a list with those of its prompts one by one."""
    given = ["The sea is", "My dog can"]
    one, other = ([ask(prompt=p, max_tokens=4).text for p in given] for _ in range(2))
    if one != other or one[0] == one[1]:
        raise Unmeasured(f"this model cannot show it: it says {quote(one)}, then {quote(other)}")
    listed = [c.text for c in ask(prompt=given, max_tokens=4).choices]
    expect(listed != one[::-1], f"the texts are in the reverse order: {quote(listed)}")
    expect_effect(len(listed) == 2, f"a list of 2 prompts has {len(listed)} texts")
    if listed != one:
        raise Unmeasured(f"in a list, the texts are others: {quote(listed)} and {quote(one)}")


row(
    "own_prompt",
    _own_prompt,
    "Each text of a list belongs to the prompt with its index.",
    "The texts of a batch are given to the wrong prompts.",
    field="prompt",
)


def _same_text(ask: Asker, _: str) -> None:
    """Both twice, so that a model that varies is not blamed."""
    whole = Asker(ask.target, completion)
    first, streamed, again, once_more = (a().text for a in (whole, ask, whole, ask))
    if first != again or streamed != once_more:
        raise Unmeasured(f"this model cannot show it: it says {quote(first)}, then {quote(again)}")
    expect(streamed == first, f"the stream says {quote(streamed)}, and the whole {quote(first)}")


row(
    "stream_text",
    _same_text,
    "At temperature 0 the streamed text is the text of the whole completion.",
    "A client that switches to streams gets texts with parts lost or doubled.",
    way=completion_stream,
    field="stream",
    needs={Capability.STREAMING},
)


# ---- what is counted and reported


def _best_of(ask: Asker, name: str) -> None:
    """Every completion costs tokens, also those that are not sent.

    The usage does not show whether a server that counts too little has made the others.
    """
    several = {"temperature": 1, "max_tokens": 4}
    one, best = (ask(**several, **b).tokens("completion_tokens") for b in ({}, {"best_of": 3}))
    if not one or best is None:
        raise Unmeasured("the answer has no usage, or no tokens")
    if best <= one:
        reason = f"{best} completion tokens are counted with {name}=3, and {one} without it"
        fail(reason, fact=BEST_OF_NOT_COUNTED)


row(
    "best_of",
    _best_of,
    "With best_of the usage counts every completion that was made.",
    "A program that pays for the best of several texts gets any text.",
    level=OPTIONAL,
)


@dataclass(frozen=True, slots=True)
class LegacyLogprobs:
    """Each choice has tokens, their logprobs, and so many alternatives for each."""

    top: int
    control: Params

    def __call__(self, ask: Asker, name: str) -> None:
        """OpenAI may add the sampled token to the alternatives."""
        for choice in ask(**self.control, logprobs=self.top, max_tokens=3).choices:
            if not choice.text:
                raise Unmeasured("this model cannot show it: it says nothing")
            if not choice.logprobs:
                raise ignored(name, f"a choice has none beside the text {quote(choice.text)}")
            joined = ""
            for part in choice.logprobs:
                other = f"the logprobs have no tokens: {quote(part)}"
                expect("tokens" in part, other, fact=LOGPROBS_NOT_LEGACY)
                tokens = pick(part, list, "tokens")
                for key in ("token_logprobs", "top_logprobs", "text_offset"):
                    count = len(pick(part, list, key))
                    expect(count == len(tokens), f"{key} has {count} entries for {len(tokens)}")
                joined += "".join(map(str, tokens))
                tops = {len(pick(top, dict)) for top in part["top_logprobs"]}
                expect_effect(tops != {0}, "logprobs was accepted, and no token has alternatives")
                expect(tops <= {self.top, self.top + 1}, f"{quote(list(tops))} alternatives")
            other = f"the tokens are {quote(joined)}, and the text is {quote(choice.text)}"
            expect(joined == choice.text, other)


both(
    "logprobs",
    LegacyLogprobs(2, {}),
    "A logprobs of 2 gives each token with its offset and two alternatives.",
    "A program that scores texts finds no tokens, because the lists have other names.",
    needs={Capability.LOGPROBS},
)


@check(
    "effects.completions.include_obfuscation",
    level=OPTIONAL,
    tier=EXTENDED,
    source="openai-openapi: ChatCompletionStreamOptions.include_obfuscation",
    needs=NEEDS | {Capability.STREAMING},
    since=SINCE,
)
def include_obfuscation(target: Target) -> None:
    """With include_obfuscation the chunks of a text have an obfuscation.

    Someone who sees only the sizes of encrypted chunks can guess the text.
    """
    body = {"model": target.model, "prompt": START, "max_tokens": 4, "stream": True}
    options = {"stream_options": {"include_obfuscation": True}}
    chunks = target.post("/completions", {**body, **options}).objects_or_refused()
    pick(chunks[0], list, "choices")
    found = any(chunk.get("obfuscation") for chunk in chunks)
    reason = "include_obfuscation was accepted, and no chunk has an obfuscation"
    fact = either(OBFUSCATION_DROPPED, fields_dropped("/completions"))
    expect_effect(found, reason, fact=fact)


@check(
    "effects.completions.user",
    level=OPTIONAL,
    tier=EXTENDED,
    source=f"{SPEC}.user",
    needs=NEEDS,
    since=SINCE,
)
def user(target: Target) -> None:
    """The user of a completion is a string, whole and in a stream: a number is rejected.

    A server that does not know the field cannot report or limit the user of an application.
    """
    for stream in (False, True):
        body = {"model": target.model, "prompt": START, "max_tokens": 1, "stream": stream}
        reply = target.post("/completions", {**body, "user": "user-1"})
        (reply.objects_or_refused if stream else reply.success_or_refused)()
        rejected(target.post("/completions", {**body, "user": 1}), "a user that is a number")
