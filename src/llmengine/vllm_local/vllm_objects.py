"""Protocols for the parts of vLLM's objects that this package uses, since vLLM is optional."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class VLLMLogprob(Protocol):
    """The log probability of one token (``vllm.logprobs.Logprob``)."""

    logprob: float
    rank: int
    decoded_token: str | None


class Completion(Protocol):
    """One answer to a prompt, or what one step adds to it (``vllm.CompletionOutput``)."""

    index: int
    text: str
    token_ids: Sequence[int]
    logprobs: Sequence[Mapping[int, VLLMLogprob]] | None
    finish_reason: str | None
    stop_reason: int | str | None


class RequestOutput(Protocol):
    """The answers to a prompt (``vllm.RequestOutput``)."""

    request_id: str
    prompt_token_ids: list[int] | None
    prompt_logprobs: Sequence[Mapping[int, VLLMLogprob] | None] | None
    outputs: Sequence[Completion]
    finished: bool
    num_cached_tokens: int | None


class ParsedCall(Protocol):
    """A tool call that a parser of vLLM found."""

    id: str | None
    name: str
    arguments: str


class ReaderParams(Protocol):
    """What a reader sets in ``vllm.SamplingParams``."""

    structured_outputs: object
    skip_special_tokens: bool


class _Resources(Protocol):
    engine_dead: bool


class _Queue(Protocol):
    def put_nowait(self, item: object, /) -> None: ...


class ProcessClient(Protocol):
    """vLLM's client of the separate process in which its engine may run."""

    resources: _Resources
    outputs_queue: _Queue
