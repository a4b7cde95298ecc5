"""Checks of effects.n: with n > 1, each choice obeys the fields of the request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from llmengine.types.request import Capability
from pytest_llmengine.contract.checks.effects import (
    HOT,
    ONE_TOKEN,
    SEVERAL,
    SPEC,
    CallsOnly,
    Measurement,
    Repeats,
    StartsWith,
    Without,
    effect,
    ignored,
    reaches,
)
from pytest_llmengine.contract.checks.effects_chat import CALLING, Logprobs, described
from pytest_llmengine.contract.checks.effects_completions import LegacyLogprobs
from pytest_llmengine.contract.facts import NAMED_CHOICE_DROPPED
from pytest_llmengine.contract.observations import START, Asker, Params, chat, completion
from pytest_llmengine.contract.outcomes import Unmeasured, quote
from pytest_llmengine.contract.registry import OPTIONAL, REQUIRED
from pytest_llmengine.contract.samples import TIME, named

COMPLETIONS = "openai-openapi: CreateCompletionRequest"


@dataclass(frozen=True, slots=True)
class WordsAtMost:
    """No choice has more words than the field allows tokens, where more come without it.

    The usage counts the tokens of all choices together, and some servers count only one.
    """

    limit: int
    control: Params

    def __call__(self, ask: Asker, name: str) -> None:
        """A token rarely holds more than one word."""
        texts = [c.text for c in ask(**{**self.control, name: self.limit}).choices]
        if any(len(text.split()) > self.limit for text in texts):
            raise ignored(name, f"more than {self.limit} words came: {quote(texts)}")
        plain = [c.text for c in ask(**{**self.control, name: 6 * self.limit}).choices]
        if not all(len(text.split()) > self.limit for text in plain):
            raise Unmeasured(f"this model cannot show it: its whole answers are {quote(plain)}")


BIAS = {"logit_bias": {"100": 100}}
FOUR = {"max_tokens": 4}
EVERY = "A program that samples several answers can use only the first."
# Not 0, because vLLM refuses two choices then.
COLD = {**SEVERAL, "temperature": 0.01}
HOT_TWO = {**SEVERAL, **HOT}
ONE_TEXT = {**HOT_TWO, "top_p": ONE_TOKEN}

Rows = tuple[tuple[str, Measurement, str, Iterable[Capability]], ...]
SHARED: Rows = (
    ("stop", Without(" ", {"stop": " "}, SEVERAL), "both texts end before a stop sequence", ()),
    ("max_tokens", WordsAtMost(3, SEVERAL), "no text has more tokens than max_tokens", ()),
    (
        "temperature",
        Repeats(COLD, HOT_TWO, ONE_TEXT),
        "a low temperature gives the same texts each time",
        (),
    ),
    (
        "seed",
        Repeats({**SEVERAL, "seed": 7}, SEVERAL, COLD),
        "the same seed gives the same texts",
        {Capability.SEED},
    ),
    (
        "logit_bias",
        Repeats({**SEVERAL, **FOUR, **BIAS}, {**SEVERAL, **FOUR}, {**COLD, **FOUR}),
        "a logit_bias of 100 for one token leaves one text",
        {Capability.LOGIT_BIAS},
    ),
)
OF_CHAT: Rows = (
    *SHARED,
    (
        "max_completion_tokens",
        WordsAtMost(3, {**SEVERAL, "max_tokens": ...}),
        "no text has more tokens than max_completion_tokens",
        (),
    ),
    ("logprobs", Logprobs(2, SEVERAL), "each choice has logprobs", {Capability.LOGPROBS}),
    (
        "response_format",
        StartsWith(
            "{",
            {"response_format": {"type": "json_object"}},
            {**SEVERAL, "prompt": "What is 2 + 2? Say the number, not in JSON."},
        ),
        "both texts are JSON objects",
        {Capability.JSON_OBJECT},
    ),
    (
        "tools",
        reaches(described("The weather of a city."), {**SEVERAL, "max_tokens": 8}),
        "the tools reach the model",
        {Capability.TOOLS},
    ),
    (
        "tool_choice",
        CallsOnly(
            "get_time",
            {"tool_choice": named(TIME)},
            {**CALLING, **SEVERAL, "tool_choice": "required"},
            NAMED_CHOICE_DROPPED,
        ),
        "each choice calls the function that was named",
        {Capability.TOOLS},
    ),
)
OF_COMPLETIONS: Rows = (
    *SHARED,
    ("logprobs", LegacyLogprobs(2, SEVERAL), "each choice has logprobs", {Capability.LOGPROBS}),
    (
        "echo",
        StartsWith(START, {"echo": True}, {**SEVERAL, **FOUR}),
        "both texts start with the prompt",
        (),
    ),
)

LEVELS = dict.fromkeys(("echo", "seed"), OPTIONAL)  # as for one choice

for field, measure, what, needs in OF_CHAT:
    effect(
        f"effects.n.{field}",
        chat,
        measure,
        f"With n=2, {what}.",
        EVERY,
        source=f"{SPEC}.n, {field}",
        level=LEVELS.get(field, REQUIRED),
        needs={Capability.N, *needs},
    )
for field, measure, what, needs in OF_COMPLETIONS:
    effect(
        f"effects.n.completions_{field}",
        completion,
        measure,
        f"With n=2, {what} in completions.",
        EVERY,
        name=field,
        source=f"{COMPLETIONS}.n, {field}",
        level=LEVELS.get(field, REQUIRED),
        needs={Capability.N, Capability.COMPLETIONS, *needs},
    )
