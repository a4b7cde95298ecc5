"""A request that shows whether a server holds a model to a constraint, or only takes it.

What this process has learnt of servers: which step of the ladder they can be trusted with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llmengine.types.request import ChatRequest, ResponseFormat
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.structured.ladder import SchemaStep
    from llmengine.structured.schema import Shape
    from llmengine.types.outputs import LLMOutput, Usage


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


Field = Literal["response_format", "structured_outputs"]


@dataclass(frozen=True, slots=True)
class Server:
    """What a verdict holds for: one route, one model, one field, one way of reasoning.

    ``field`` is what the server is asked with: OpenAI's, or vLLM's own for regex and the like.
    ``extra`` is the configuration's ``extra_body`` as JSON, for reasoning is often set there. The
    server's version is not in it: asking for it would cost every batch a request, and an answer is
    validated whatever the verdict.
    """

    url: str
    model: str
    field: Field = "response_format"
    reasoning: bool | str | None = None
    extra: str = "{}"


@dataclass(frozen=True, slots=True)
class Enforcement:
    """Where the ladder starts at a server, why, and what it cost to find out.

    ``enforced`` is None where the probe got no answer that shows it.
    """

    first: SchemaStep
    enforced: bool | None
    reason: str
    requests: int = 0
    usage: Usage | None = None


_verdicts: dict[Server, Enforcement] = {}
_refused: set[tuple[Server, SchemaStep, str]] = set()


def verdicts() -> dict[Server, Enforcement]:
    """Every verdict so far, with the requests and tokens that the probes cost."""
    return dict(_verdicts)


def verdict_on(server: Server) -> Enforcement | None:
    """The verdict on a server, if it was probed."""
    return _verdicts.get(server)


def learn(server: Server, verdict: Enforcement) -> None:
    """Keep a verdict for the life of the process."""
    _verdicts[server] = verdict


def learn_refusal(server: Server, step: SchemaStep, shape: Shape) -> bool:
    """Keep that a server does not take the step; whether that is news.

    A server may refuse one schema and take others, so ``json_schema`` is refused for a shape.
    """
    known = len(_refused)
    _refused.add(_refusal(server, step, shape))
    return len(_refused) > known


def refuses(server: Server, step: SchemaStep, shape: Shape) -> bool:
    """Whether the server is known not to take the step."""
    return bool(_refused) and _refusal(server, step, shape) in _refused


def forget() -> None:
    """Forget everything, for servers that have changed behind their address."""
    _verdicts.clear()
    _refused.clear()


def _refusal(server: Server, step: SchemaStep, shape: Shape) -> tuple[Server, SchemaStep, str]:
    return (server, step, shape.text if step == "json_schema" else "")
