"""Whether a server enforces constraints: the probe request, and the verdicts of an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

from llmengine.types.request import ChatRequest, ResponseFormat
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Mapping

    from llmengine.structured.ladder import SchemaStep
    from llmengine.structured.schema import Shape
    from llmengine.types.outputs import LLMOutput, Usage
    from llmengine.types.wire import UserMessage

    Probe = Task["Enforcement | None"]


# Token limits of the probe; the second one is for models whose reasoning was cut by the first.
BUDGETS = (64, 1024)

# The prompt does not mention these, so a model writes them only if the server enforces the schema.
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


def probe_request(
    model: str,
    reasoning: bool | str | None,
    extra_body: Mapping[str, object],
    *,
    max_tokens: int,
    field: Field | None,
) -> ChatRequest:
    """The probe for `field`; if `field` is None, the same request without a constraint."""
    message: UserMessage = {"role": "user", "content": _PROMPT}
    constraint = {"choice": [_EXPECTED]} if field == "structured_outputs" else None
    return ChatRequest(
        model=model,
        prompt=_PROMPT,
        messages=(message,),
        sampling=SamplingParams(
            temperature=0, max_tokens=max_tokens, structured_outputs=constraint
        ),
        response_format=ResponseFormat(_SCHEMA, "probe") if field == "response_format" else None,
        reasoning=reasoning,
        extra_body=extra_body,
    )


def judgement_of(output: LLMOutput) -> Judgement:
    """Whether the answer shows that the schema is enforced; "cut" if the answer ended too early."""
    answer = output.outputs[0]
    text = "".join(answer.text.split())
    if text == _EXPECTED:
        return "enforced"
    is_beginning = answer.finish_reason == "length" and _EXPECTED.startswith(text)
    # Constraints apply after the reasoning; this answer ended before the end of its reasoning.
    if is_beginning or (answer.reasoning and not text):
        return "cut"
    return "ignored"


Field = Literal["response_format", "structured_outputs"]


@dataclass(frozen=True, slots=True)
class Server:
    """The key of a verdict: one route, model, field, reasoning setting and ``extra_body``.

    ``field`` is the request field of the constraint: OpenAI's field, or vLLM's own field for regex
    and others. ``extra`` is the configuration's ``extra_body`` as JSON, because reasoning is often
    set there. The version of the server is not part of the key: it would cost one more request per
    batch, and every answer is validated anyway.
    """

    url: str
    model: str
    field: Field = "response_format"
    reasoning: bool | str | None = None
    extra: str = "{}"


@dataclass(frozen=True, slots=True)
class Enforcement:
    """The verdict on a server: the first step of the ladder, the reason, and the probe's cost.

    ``enforced`` is None if the probe did not show it.
    """

    first: SchemaStep
    enforced: bool | None
    reason: str
    requests: int = 0
    usage: Usage | None = None


class EnforcementCache:
    """What one engine knows about the constraints that its server enforces.

    ``probes`` holds the probes that are under way, by event loop. A probe is lost when its
    loop ends, and in a forked process.
    """

    def __init__(self) -> None:
        self.probes: WeakKeyDictionary[object, dict[Server, Probe]] = WeakKeyDictionary()
        self._verdicts: dict[Server, Enforcement] = {}
        self._refused: set[tuple[Server, SchemaStep, str]] = set()
        self._ignored: dict[Server, frozenset[str]] = {}

    def verdicts(self) -> dict[Server, Enforcement]:
        """All verdicts so far, with the requests and tokens that the probes cost."""
        return dict(self._verdicts)

    def verdict_on(self, server: Server) -> Enforcement | None:
        """The verdict on a server, if it was probed."""
        return self._verdicts.get(server)

    def learn(self, server: Server, verdict: Enforcement) -> None:
        """Keep a verdict."""
        self._verdicts[server] = verdict

    def learn_refusal(self, server: Server, step: SchemaStep, shape: Shape) -> bool:
        """Remember that a server refuses the step; return whether this was not known before.

        A server may refuse one schema and accept others, so for ``json_schema`` the refusal is
        remembered per shape.
        """
        known = len(self._refused)
        self._refused.add(_refusal(server, step, shape))
        return len(self._refused) > known

    def refuses(self, server: Server, step: SchemaStep, shape: Shape) -> bool:
        """Whether the server is known to refuse the step."""
        return bool(self._refused) and _refusal(server, step, shape) in self._refused

    def learn_ignored(self, server: Server, features: frozenset[str]) -> frozenset[str]:
        """Remember features of schemas that a server ignores; return those not known before."""
        known = self.ignored(server)
        self._ignored[server] = known | features
        return features - known

    def ignored(self, server: Server) -> frozenset[str]:
        """The features of schemas that the server is known to accept and not to enforce."""
        return self._ignored.get(server, frozenset())

    def forget(self) -> None:
        """Forget all that is known, because another server may answer now."""
        self._verdicts.clear()
        self._refused.clear()
        self._ignored.clear()


def _refusal(server: Server, step: SchemaStep, shape: Shape) -> tuple[Server, SchemaStep, str]:
    return (server, step, shape.text if step == "json_schema" else "")
