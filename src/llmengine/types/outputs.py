"""Outputs and deltas of calls, in the shape of vLLM's ``RequestOutput``."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Usage:
    """The token counts that a server reports; None for a count that it does not report."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    def __add__(self, other: Usage) -> Usage:
        """The sum of both; a count that is None in both stays None."""
        return Usage(*map(_sum, _counts(self), _counts(other)))

    def __sub__(self, earlier: Usage) -> Usage:
        """The difference to an earlier sum; a count that is None here stays None."""
        return Usage(*map(_difference, _counts(self), _counts(earlier)))


_counts: Callable[[Usage], tuple[int | None, ...]] = attrgetter(*Usage.__slots__)


def _sum(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else a + b


def _difference(a: int | None, b: int | None) -> int | None:
    return None if a is None else a - (b or 0)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool; ``arguments`` is JSON text, as the model wrote it."""

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
    """One answer to one prompt, with vLLM's field names and further fields of HTTP servers.

    ``token_ids`` is None if the server did not send them; see SamplingParams.return_token_ids.
    ``finish_reason`` is the server's ("stop", "length", "content_filter"), "tool_calls" for every
    complete answer that calls tools, or "refusal" if ``text`` is the model's refusal.
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

    ``prompt_logprobs`` has one mapping of token id to Logprob per prompt token, None for the
    first. ``warnings`` lists minor fields that could not be read, such as a usage that does not
    consist of numbers; such a field is None.
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
    """A fragment of one tool call; the fragments with the same ``index`` form one call."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """One step of a stream: new text, reasoning or tool call fragments of one answer.

    ``token_ids`` are the ids of the answer's tokens, if the request asked for them; a token may
    come before its text. ``prompt_token_ids`` come on a first delta that has nothing else. The
    last delta of an answer has its ``finish_reason``. ``usage`` comes on the last delta of the
    stream, with ``index`` 0 and no text. With an ``output_model`` one more delta per answer
    follows when the answer is complete and validated; it has only ``parsed``.
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
        """Whether the delta has any content that the model generated."""
        return bool(self.text or self.reasoning or self.tool_calls)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The ids of a prompt's tokens; ``max_model_len`` is the model's context in tokens.

    ``counted`` is their number if the server counts tokens without giving their ids;
    ``token_ids`` is empty then.
    """

    token_ids: tuple[int, ...]
    max_model_len: int | None = None
    counted: int | None = None

    @property
    def count(self) -> int:
        """The number of tokens."""
        return len(self.token_ids) if self.counted is None else self.counted


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A server as it describes itself; a field that the server does not send is None.

    ``version`` is the version of the server program. ``model`` is the engine's model, or the only
    model of the server if the engine has none. ``models`` are all models that the server lists.
    ``root`` is what the model's name stands for, such as a folder or a name on a hub.
    ``max_model_len`` is the context in tokens. ``model_digest`` is a hash of the weights.
    ``problem`` says why the version is unknown although the server has a route for it, "" if there
    was no problem. Two answers can be compared if the fingerprints of their servers are equal
    except for ``url`` and ``problem``.
    """

    url: str
    version: str | None = None
    model: str | None = None
    models: tuple[str, ...] | None = None
    root: str | None = None
    max_model_len: int | None = None
    owned_by: str | None = None
    model_digest: str | None = None
    problem: str = ""
