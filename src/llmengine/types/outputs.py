"""What comes back: vLLM's ``RequestOutput`` shape, and one result a prompt.

A prompt in tokens.

Who answers at an address.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.types.errors import LLMEngineError


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a server says were used; None where it did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    def __add__(self, other: Usage) -> Usage:
        """Sum of both; a count that neither knows stays None."""
        return Usage(*(_sum(getattr(self, n), getattr(other, n)) for n in self.__slots__))


def _sum(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else a + b


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool; ``arguments`` is the JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Logprob:
    """One token with its natural-log probability and the most likely alternatives."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top: tuple[Logprob, ...] = ()


@dataclass(frozen=True, slots=True)
class CompletionOutput:
    """One answer to one prompt, with vLLM's field names and what HTTP servers add.

    ``token_ids`` is None where the server did not tell them; see SamplingParams.return_token_ids.
    ``finish_reason`` is the server's ("stop", "length", "content_filter"), "tool_calls" for every
    answer that calls tools and is whole, or "refusal" where ``text`` is what the model said in
    refusing.
    """

    index: int
    text: str
    token_ids: tuple[int, ...] | None = None
    cumulative_logprob: float | None = None
    logprobs: tuple[Logprob, ...] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    parsed: Any = None

    @property
    def reasoning_content(self) -> str | None:
        """The older name of ``reasoning``."""
        return self.reasoning


@dataclass(frozen=True, slots=True)
class LLMOutput:
    """All answers to one prompt: the shape of ``vllm.RequestOutput``.

    ``prompt_logprobs`` has one mapping of token id to Logprob a prompt token, None for the first.
    ``warnings`` says what the server sent beside the answer that could not be read, such as a
    usage that is not made of numbers; what cannot be read is None.
    """

    request_id: str
    prompt: Any
    outputs: tuple[CompletionOutput, ...]
    finished: bool = True
    prompt_token_ids: tuple[int, ...] | None = None
    usage: Usage | None = None
    model: str | None = None
    schema_strategy: str | None = None
    prompt_logprobs: tuple[Mapping[int, Logprob] | None, ...] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def parsed(self) -> Any:
        """The first answer as an instance of ``output_model``."""
        return self.outputs[0].parsed if self.outputs else None

    @property
    def reasoning(self) -> str | None:
        """The reasoning of the first answer."""
        return self.outputs[0].reasoning if self.outputs else None

    @property
    def reasoning_content(self) -> str | None:
        """The older name of ``reasoning``."""
        return self.reasoning

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls of the first answer."""
        return self.outputs[0].tool_calls if self.outputs else ()


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A fragment of one tool call; fragments with one ``index`` join to a whole."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """One step of a stream: new text, reasoning or tool call fragments of one answer.

    ``token_ids`` are the answer's own where they were asked for; a token may come before its text.
    ``prompt_token_ids`` come on a first delta that has nothing else. The last delta of an answer
    has its ``finish_reason``; ``usage`` comes on the last delta of the stream, with ``index`` 0 and
    no text. With an ``output_model`` one more delta an answer
    follows, once it is whole and has been validated: it has nothing but ``parsed``.
    """

    text: str = ""
    index: int = 0
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[Logprob, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    parsed: Any = None
    token_ids: tuple[int, ...] = ()
    prompt_token_ids: tuple[int, ...] | None = None

    @property
    def has_content(self) -> bool:
        """Whether the delta brings anything that a model generated."""
        return bool(self.text or self.reasoning or self.tool_calls)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one prompt: ``output`` or ``error``, never neither.

    ``attempts`` counts the requests that were sent, failed ones and repairs included. ``usage``
    sums their tokens, except of the ``uncounted`` ones, for which no server told any and which may
    have used some. ``cost`` is the money spent on all of them in ``currency``; None where
    any part of it is unknown.
    """

    output: LLMOutput | None = None
    error: LLMEngineError | None = None
    attempts: int = 1
    usage: Usage | None = None
    cost: float | None = None
    uncounted: int = 0
    currency: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the prompt was answered."""
        return self.error is None

    def unwrap(self) -> LLMOutput:
        """The output, or the error raised."""
        if self.error is not None:
            raise self.error
        assert self.output is not None
        return self.output


@dataclass(frozen=True, slots=True)
class Tokens:
    """The ids of a prompt's tokens; ``max_model_len`` is how many the model's context holds."""

    token_ids: tuple[int, ...]
    max_model_len: int | None = None

    @property
    def count(self) -> int:
        """How many tokens there are."""
        return len(self.token_ids)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A server as it describes itself; what it does not tell is None.

    ``version`` is the server program's. ``model`` is the name it answers to: the engine's, or the
    only one that is served where the engine has none. ``models`` are all names that it lists.
    ``root`` is what the name stands for, such as a folder or a hub's name. ``max_model_len`` is
    the context in tokens. ``model_digest`` is a hash of the weights. Two answers can be compared
    when the fingerprints of their servers are equal but for ``url``.
    """

    url: str
    version: str | None = None
    model: str | None = None
    models: tuple[str, ...] | None = None
    root: str | None = None
    max_model_len: int | None = None
    owned_by: str | None = None
    model_digest: str | None = None
