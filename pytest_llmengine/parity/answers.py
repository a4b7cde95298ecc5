"""The answers of one side: requests with pinned sampling values, and answers as plain values."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from jsonschema import Draft202012Validator

from llmengine.types.request import Capability
from llmengine.types.sampling import SamplingParams
from llmengine.types.secrets import scrub
from pytest_llmengine.contract.jobs import at_once
from pytest_llmengine.targets.pinned import PINNED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmengine.engine.engine import Engine
    from llmengine.engine.options import Options
    from llmengine.types.outputs import LLMOutput, Logprob
    from llmengine.types.results import Result
    from pytest_llmengine.parity.prompts import ParityPrompt


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token with its natural-log probability and the most likely alternatives.

    ``top`` includes the token itself. It may be unsorted: vLLM puts the chosen token first.
    """

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()

    def rank_of(self, text: str) -> int | None:
        """The rank of a token among the alternatives, 1 for the likeliest; None if not there."""
        chance = next((value for other, value in self.top if other == text), None)
        return None if chance is None else 1 + sum(value > chance for _, value in self.top)

    @property
    def best(self) -> float:
        """The log-probability of the likeliest token at this position."""
        return max((value for _, value in self.top), default=self.logprob)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityAnswer:
    """One answer as a plain value that a file can hold; ``error`` says why there is none.

    ``tokens`` is None if the engine gave no log-probabilities; ``token_ids`` and
    ``prompt_token_ids`` are None if it gave no ids. ``tool_calls`` are (name, arguments as JSON
    text), None if no tools were offered or the engine leaves calls in the text. ``valid`` says
    whether the text fits the prompt's schema, None if the prompt has no schema. ``parsed`` is the
    text as a JSON value, if a schema was given and the text is JSON.
    """

    id: str
    text: str = ""
    token_ids: tuple[int, ...] | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    tokens: tuple[Token, ...] | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning: str | None = None
    tool_calls: tuple[tuple[str, str], ...] | None = None
    valid: bool | None = None
    parsed: Any = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    def to_dict(self) -> dict[str, Any]:
        """The answer as a JSON object; unknown values are left out."""
        row = {name: getattr(self, name) for name in self.__slots__}
        if self.tokens is not None:
            row["tokens"] = [[t.text, t.logprob, t.top] for t in self.tokens]
        return {name: value for name, value in row.items() if value is not None}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """The answer that `to_dict` wrote."""
        known = dict(row)
        for name in ("token_ids", "prompt_token_ids"):
            if name in known:
                known[name] = tuple(known[name])
        if "tokens" in known:
            known["tokens"] = tuple(_token(*entry) for entry in known["tokens"])
        if "tool_calls" in known:
            known["tool_calls"] = tuple((name, text) for name, text in known["tool_calls"])
        return cls(**known)


def _token(text: str, logprob: float, top: list[list[Any]]) -> Token:
    return Token(text, logprob, tuple((other, value) for other, value in top))


TOP = 5
"""How many alternatives are requested per token."""


def pinned(prompt: ParityPrompt, *, logprobs: bool, token_ids: bool) -> SamplingParams:
    """The sampling parameters for a prompt; nothing is left to a default."""
    return SamplingParams(
        **PINNED,
        max_tokens=prompt.max_tokens,
        logprobs=TOP if logprobs else None,
        return_token_ids=token_ids or None,
    )


# Backends whose server returns token ids on request; in-process vLLM always returns them.
_RETURN_TOKEN_IDS = frozenset({"vllm_api"})


def generate_answers(
    engine: Engine, prompts: Sequence[ParityPrompt], batch: int
) -> list[ParityAnswer]:
    """One answer per prompt, in order; `batch` prompts are sent at once, then the next `batch`.

    In-process vLLM computes a batch together; on a server, the scheduler decides.
    """
    answers: list[ParityAnswer] = []
    for start in range(0, len(prompts), batch):
        answers += _generate_batch(engine, prompts[start : start + batch])
    return answers


def _generate_batch(engine: Engine, prompts: Sequence[ParityPrompt]) -> list[ParityAnswer]:
    """Send prompts at the same time; those with the same schema and tools share one call."""
    calls: dict[str, list[ParityPrompt]] = {}
    for prompt in prompts:
        calls.setdefault(prompt.needs, []).append(prompt)
    batches = at_once([partial(_call, engine, group) for group in calls.values()])
    by_id = {answer.id: answer for answers in batches for answer in answers}
    return [by_id[prompt.id] for prompt in prompts]


def _call(engine: Engine, prompts: Sequence[ParityPrompt]) -> list[ParityAnswer]:
    logprobs = Capability.LOGPROBS in engine.backend.capabilities
    token_ids = engine.backend.name in _RETURN_TOKEN_IDS
    results = engine.results(
        [list(prompt.messages) for prompt in prompts],
        [pinned(prompt, logprobs=logprobs, token_ids=token_ids) for prompt in prompts],
        **_options(prompts[0]),
    )
    separates = Capability.TOOLS in engine.backend.capabilities
    return [
        answer_of(prompt, result, separates_tool_calls=separates)
        for prompt, result in zip(prompts, results, strict=True)
    ]


def _options(prompt: ParityPrompt) -> Options:
    options: Options = {"json_schema": prompt.schema, "tools": prompt.tools}
    if prompt.tool_choice is not None:
        options["tool_choice"] = prompt.tool_choice
    return options


_DIGITS = 6  # of a log-probability; a step of float32 is about this large
_LOWEST = -9999.0  # what vLLM writes for a probability of 0; JSON has no infinity


def answer_of(prompt: ParityPrompt, result: Result, *, separates_tool_calls: bool) -> ParityAnswer:
    """The answer in a result, or its error; known keys are removed.

    ``separates_tool_calls`` says whether the engine separates tool calls from the text.
    """
    if result.output is None or result.error is not None:
        error = result.error
        return ParityAnswer(id=prompt.id, error=scrub(f"{type(error).__name__}: {error}"))
    answer = _of_output(prompt.id, result.output)
    if prompt.tools and separates_tool_calls:
        calls = tuple((call.name, call.arguments) for call in result.output.tool_calls)
        answer = replace(answer, tool_calls=calls)
    return answer if prompt.schema is None else _with_validity(answer, prompt.schema)


def _of_output(id: str, output: LLMOutput) -> ParityAnswer:  # noqa: A002 - the prompt's own name
    first, usage = output.outputs[0], output.usage
    return ParityAnswer(
        id=id,
        text=scrub(first.text),
        token_ids=first.token_ids,
        prompt_token_ids=output.prompt_token_ids,
        tokens=None if first.logprobs is None else tuple(_answer_token(t) for t in first.logprobs),
        finish_reason=first.finish_reason,
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
        reasoning=first.reasoning,
    )


def _answer_token(entry: Logprob) -> Token:
    top = tuple((other.token, _number(other.logprob)) for other in entry.top)
    return Token(entry.token, _number(entry.logprob), top)


def _number(logprob: float) -> float:
    return round(max(logprob, _LOWEST), _DIGITS)


def _with_validity(answer: ParityAnswer, schema: Mapping[str, Any]) -> ParityAnswer:
    """The answer with its text parsed as JSON and checked against the schema."""
    try:
        parsed = json.loads(answer.text)
    except ValueError:
        return replace(answer, valid=False)
    return replace(answer, valid=Draft202012Validator(schema).is_valid(parsed), parsed=parsed)
