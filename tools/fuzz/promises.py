"""The promises of every decoder for any bytes: functions that raise AssertionError.

Used by the property tests in ``tests/dialects`` and by the fuzzer in this folder.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from llmengine.dialects.anthropic_messages import AnthropicMessages
from llmengine.dialects.errors import failure
from llmengine.dialects.ollama import OllamaChat, OllamaOpenAIChat
from llmengine.dialects.openai_chat import VLLM_EXTRAS, OpenAIChat
from llmengine.dialects.openai_responses import OpenAIResponses
from llmengine.types.errors import CallError
from llmengine.types.outputs import (
    CompletionOutput,
    Delta,
    LLMOutput,
    Logprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from llmengine.types.request import ChatRequest
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Iterable

DIALECTS: dict[str, Any] = {
    "openai chat": OpenAIChat(extras=VLLM_EXTRAS),
    "openai chat, null completes": OpenAIChat(done_completes=True),
    "openai responses": OpenAIResponses(),
    "anthropic messages": AnthropicMessages(),
    "ollama chat": OllamaChat(),
    "ollama openai chat": OllamaOpenAIChat(),
}
"""Every wire format, by a name for messages."""

REQUESTS = [
    ChatRequest("m", "Hi", ({"role": "user", "content": "Hi"},), SamplingParams(n=n), reasoning=r)
    for n in (None, 2)
    for r in (None, True, False)
]
"""Requests whose answers are decoded differently."""


@dataclass(frozen=True)
class Outcome:
    """The result of decoding: the deltas, and the output or the error with its partial."""

    deltas: list[Delta]
    output: LLMOutput | None
    error: CallError | None

    @property
    def end(self) -> str:
        """The output or error in a form that can be compared; NaN equals NaN here."""
        error = self.error
        return repr((self.output, type(error), str(error), getattr(error, "partial", None)))


def whole(dialect: Any, request: ChatRequest, body: bytes) -> Outcome:
    """Decode a body that is a whole answer."""
    try:
        return _checked(Outcome([], dialect.decode(body, request), None))
    except CallError as error:
        return _checked(Outcome([], None, error))


def streamed(dialect: Any, request: ChatRequest, pieces: Iterable[bytes]) -> Outcome:
    """Decode a body that is a streamed answer, in these pieces."""
    decoder = dialect.decoder(request)
    deltas: list[Delta] = []
    try:
        for piece in pieces:
            deltas += decoder.feed(piece)
        _check_output(decoder.partial)
        deltas += decoder.end()
        return _checked(Outcome(deltas, decoder.finish(), None))
    except CallError as error:
        return _checked(Outcome(deltas, None, error))


def check_cuts(dialect: Any, request: ChatRequest, body: bytes, cuts: Iterable[int]) -> Outcome:
    """Decode a streamed body as a whole and in pieces; both must give the same result."""
    once = streamed(dialect, request, [body])
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[a:b] for a, b in itertools.pairwise(places)]
    cut = streamed(dialect, request, pieces)
    assert cut.end == once.end, (pieces, cut.end, once.end)
    shown, given = [repr(d) for d in once.deltas], [repr(d) for d in cut.deltas]
    if once.error is None:
        assert given == shown, (pieces, given, shown)
        _check_deltas(once)
    else:
        # Text in the same piece as the error is only in the error's partial.
        assert given[: len(shown)] == shown, (pieces, given, shown)
    return once


def check_failure(status: int, headers: dict[str, str], body: bytes) -> None:
    """Decode the body of a failed request; it must be an error with a message."""
    error = failure(status, headers, body)
    assert isinstance(error, CallError)
    assert str(error)
    assert error.retry_after is None or error.retry_after >= 0


# ---- well-formed results


def _checked(outcome: Outcome) -> Outcome:
    for delta in outcome.deltas:
        _check_delta(delta)
    if outcome.output is not None:
        assert outcome.output.finished
        _check_output(outcome.output)
    if outcome.error is not None:
        assert str(outcome.error)
        partial = outcome.error.partial
        if partial is not None:
            assert not partial.finished or partial.outputs
            _check_output(partial)
    return outcome


def _check_deltas(outcome: Outcome) -> None:
    """Compare the deltas of a whole answer with the answer."""
    assert outcome.output is not None
    for answer in outcome.output.outputs:
        own = [d for d in outcome.deltas if d.index == answer.index]
        said = "".join(d.text for d in own)
        thought = "".join(d.reasoning for d in own)
        # A lone closing tag is recognised only at the end; the deltas contain it as text.
        assert (said, thought) == (answer.text, answer.reasoning or "") or "</think>" in said
        assert [d.finish_reason for d in own if d.finish_reason] == [
            reason for reason in [answer.finish_reason] if reason
        ]
        fragments = [c for d in own for c in d.tool_calls]
        for place, call in enumerate(answer.tool_calls):
            arguments = [f.arguments for f in fragments if f.index == place]
            assert "".join(arguments) == call.arguments
    told = [d.usage for d in outcome.deltas if d.usage]
    assert len(told) <= 1
    if outcome.output.usage is not None:
        assert told


def _check_output(output: LLMOutput) -> None:
    assert output.outputs
    assert isinstance(output.request_id, str)
    assert output.model is None or isinstance(output.model, str)
    assert all(isinstance(w, str) for w in output.warnings)
    _check_ids(output.prompt_token_ids)
    if output.usage is not None:
        _check_usage(output.usage)
    for answer in output.outputs:
        _check_answer(answer)
    for place in output.prompt_logprobs or ():
        for token, logprob in (place or {}).items():
            assert isinstance(token, int)
            _check_logprob(logprob)


def _check_answer(answer: CompletionOutput) -> None:
    assert isinstance(answer.index, int)
    assert isinstance(answer.text, str)
    assert answer.finish_reason is None or (
        isinstance(answer.finish_reason, str) and answer.finish_reason
    )
    assert answer.stop_reason is None or isinstance(answer.stop_reason, int | str)
    assert answer.reasoning is None or isinstance(answer.reasoning, str)
    assert answer.cumulative_logprob is None or isinstance(answer.cumulative_logprob, float)
    _check_ids(answer.token_ids)
    for logprob in answer.logprobs or ():
        _check_logprob(logprob)
    for call in answer.tool_calls:
        assert isinstance(call, ToolCall)
        assert isinstance(call.id, str)
        assert isinstance(call.name, str)
        assert isinstance(call.arguments, str)


def _check_delta(delta: Delta) -> None:
    assert isinstance(delta.index, int)
    assert isinstance(delta.text, str)
    assert isinstance(delta.reasoning, str)
    assert delta.finish_reason is None or isinstance(delta.finish_reason, str)
    assert all(isinstance(c, ToolCallDelta) for c in delta.tool_calls)
    _check_ids(delta.token_ids)
    _check_ids(delta.prompt_token_ids)
    if delta.usage is not None:
        _check_usage(delta.usage)


def _check_usage(usage: Usage) -> None:
    for field in fields(usage):
        count = getattr(usage, field.name)
        assert count is None or (type(count) is int and count >= 0)
    assert usage + usage
    assert float(usage.total_tokens or 0) >= 0


def _check_logprob(logprob: Logprob) -> None:
    assert isinstance(logprob.token, str)
    assert isinstance(logprob.logprob, float)
    _check_ids(logprob.bytes)
    for other in logprob.top:
        _check_logprob(other)


def _check_ids(ids: tuple[int, ...] | None) -> None:
    assert ids is None or all(type(i) is int for i in ids)


# ---- mutations

JUNK: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    5,
    5.5,
    1e308,
    float("inf"),
    10**400,
    "",
    "5",
    "x",
    "</think>",
    "[DONE]",
    [],
    [None],
    [[]],
    {},
    {"type": "text", "text": "x"},
    {"message": "boom"},
]
"""Values that replace a value of a server's answer."""


def junk_text(value: Any) -> str:
    """The value as JSON, including infinity and very large numbers."""
    return json.dumps(value, ensure_ascii=False)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside a JSON value, and of the value itself."""
    found = [path]
    if isinstance(value, dict):
        found += [p for key, item in value.items() for p in places(item, (*path, key))]
    elif isinstance(value, list):
        found += [p for i, item in enumerate(value) for p in places(item, (*path, i))]
    return found


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    """The JSON value with another value at that path."""
    if not path:
        return by
    key, *rest = path
    if isinstance(value, dict):
        return {**value, key: replaced(value[key], tuple(rest), by)}
    return [*value[:key], replaced(value[key], tuple(rest), by), *value[key + 1 :]]
