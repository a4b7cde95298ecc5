"""From an engine's result to an answer that can be compared."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator

from llmengine.types.secrets import scrub
from pytest_llmengine.parity.answer import Answer, Token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.types.outputs import LLMOutput, Logprob, Result
    from pytest_llmengine.parity.prompt import Prompt

_DIGITS = 6  # of a log-probability: a step of float32 is about as large
_LOWEST = -9999.0  # what vLLM writes for a probability of 0; JSON has no infinity


def answer_of(prompt: Prompt, result: Result, *, tells_calls: bool) -> Answer:
    """The answer in a result, or the error that took its place, any key taken out.

    ``tells_calls`` says that the engine takes tool calls out of the text.
    """
    if result.output is None or result.error is not None:
        error = result.error
        return Answer(id=prompt.id, error=scrub(f"{type(error).__name__}: {error}"))
    answer = _of_output(prompt.id, result.output)
    if prompt.tools and tells_calls:
        calls = tuple((call.name, call.arguments) for call in result.output.tool_calls)
        answer = replace(answer, tool_calls=calls)
    return answer if prompt.schema is None else _judged(answer, prompt.schema)


def _of_output(id: str, output: LLMOutput) -> Answer:  # noqa: A002 - the prompt's own name
    first, usage = output.outputs[0], output.usage
    return Answer(
        id=id,
        text=scrub(first.text),
        token_ids=first.token_ids,
        prompt_token_ids=output.prompt_token_ids,
        tokens=None if first.logprobs is None else tuple(_token(t) for t in first.logprobs),
        finish_reason=first.finish_reason,
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
        reasoning=first.reasoning,
    )


def _token(entry: Logprob) -> Token:
    top = tuple((other.token, _number(other.logprob)) for other in entry.top)
    return Token(entry.token, _number(entry.logprob), top)


def _number(logprob: float) -> float:
    return round(max(logprob, _LOWEST), _DIGITS)


def _judged(answer: Answer, schema: Mapping[str, Any]) -> Answer:
    """The answer with what its text is worth as JSON."""
    try:
        parsed = json.loads(answer.text)
    except ValueError:
        return replace(answer, valid=False)
    return replace(answer, valid=Draft202012Validator(schema).is_valid(parsed), parsed=parsed)
