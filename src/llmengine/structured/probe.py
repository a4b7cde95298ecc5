"""A request that shows whether a server holds a model to a constraint, or only takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from llmengine.types.request import ChatRequest, ResponseFormat
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.structured.verdicts import Field
    from llmengine.types.outputs import LLMOutput

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
    field: Field | None,
) -> ChatRequest:
    """The probe of a field, or without one the same request for comparison."""
    constraint = {"choice": [_EXPECTED]} if field == "structured_outputs" else None
    return ChatRequest(
        model=model,
        prompt=_PROMPT,
        messages=({"role": "user", "content": _PROMPT},),
        sampling=SamplingParams(
            temperature=0, max_tokens=max_tokens, structured_outputs=constraint
        ),
        response_format=ResponseFormat(_SCHEMA, "probe") if field == "response_format" else None,
        reasoning=reasoning,
        extra_body=extra_body,
    )


def judged(output: LLMOutput) -> Judgement:
    """Whether the answer shows the schema enforced; ``cut`` if it ended before it showed."""
    answer = output.outputs[0]
    text = "".join(answer.text.split())
    if text == _EXPECTED:
        return "enforced"
    is_begun = answer.finish_reason == "length" and _EXPECTED.startswith(text)
    # Constraints hold from the end of the reasoning on, which such an answer never came to.
    if is_begun or (answer.reasoning and not text):
        return "cut"
    return "ignored"
