"""A request that shows whether a server holds a model to a schema, or only takes the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from llmengine.values.request import ChatRequest, ResponseFormat
from llmengine.values.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.values.outputs import LLMOutput

# Tokens for the answer; the second is for models that reason first and were cut in doing so.
BUDGETS = (64, 1024)

# The prompt does not speak of these, so no model says them unless it is made to.
_KEY, _WORD = "vq", "kzzub-7"
_PROMPT = "What is the capital of France?"
_EXPECTED = f'{{"{_KEY}":"{_WORD}"}}'
_SCHEMA = {
    "type": "object",
    "properties": {_KEY: {"type": "string", "enum": [_WORD]}},
    "required": [_KEY],
    "additionalProperties": False,
}

Judgement = Literal["enforced", "ignored", "cut"]


def question(
    model: str,
    reasoning: bool | str | None,
    extra_body: Mapping[str, Any],
    *,
    max_tokens: int,
    with_schema: bool = True,
) -> ChatRequest:
    """The probe, or without the schema the same request for comparison."""
    return ChatRequest(
        model=model,
        prompt=_PROMPT,
        messages=({"role": "user", "content": _PROMPT},),
        sampling=SamplingParams(temperature=0, max_tokens=max_tokens),
        response_format=ResponseFormat(_SCHEMA, "probe") if with_schema else None,
        reasoning=reasoning,
        extra_body=extra_body,
    )


def judged(output: LLMOutput) -> Judgement:
    """Whether the answer shows the schema enforced; ``cut`` if it ended before it showed."""
    answer = output.outputs[0]
    text = "".join(answer.text.split())
    if text == _EXPECTED:
        return "enforced"
    if answer.finish_reason == "length" and _EXPECTED.startswith(text):
        return "cut"
    return "ignored"
