"""Reading a whole answer of OpenAI's chat format, as servers really send it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmengine.dialects.failures import failed_reason, reported_failure
from llmengine.dialects.fields import (
    CHAT_USAGE,
    FieldError,
    count,
    json_text,
    label,
    mapping,
    number,
    objects,
    read_usage,
    required_mapping,
    required_text,
    text,
    whole_numbers,
    wrong,
)
from llmengine.dialects.openai_content import content, reasoning
from llmengine.dialects.reasoning import split_think
from llmengine.dialects.wire import (
    cumulative,
    logprobs,
    not_read,
    read_object,
    too_few,
    unexpected,
    unfinished,
)
from llmengine.types.outputs import CompletionOutput, LLMOutput, Logprob, ToolCall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.types.errors import CallError
    from llmengine.types.request import ChatRequest

_MESSAGE = "choices[].message."
_CALL = f"{_MESSAGE}tool_calls[]."
_LONGEST_ID = 16  # digits of a token's number


def decode(body: bytes, request: ChatRequest, *, null_completes: bool = False) -> LLMOutput:
    """The answer in the body of a chat completion.

    ``null_completes`` says that this server leaves the finish_reason of a whole answer out.
    Raises the error that the server reports in the body, and UnexpectedResponseError, with a
    quote of the body, for anything that is not a whole answer; what came is its `partial`.
    """
    data = read_object(body)
    try:
        output = _read(data, request)
    except FieldError as error:
        if data.get("error"):
            raise reported_failure(data, body) from None
        raise not_read("the answer is not a chat completion", error, body) from None
    failed = failure_in(data, body)
    if failed is not None:
        failed.partial = replace(output, finished=False) if output.outputs else None
        raise failed
    if not output.outputs:
        raise unexpected("an answer without choices", body)
    if not null_completes and any(o.finish_reason is None for o in output.outputs):
        raise unfinished(output, body)
    if len(output.outputs) < (request.sampling.n or 1):
        raise too_few(output, request, body)
    return output


def failure_in(data: Mapping[str, Any], body: bytes) -> CallError | None:
    """What the server says went wrong, beside the choices or in one of them; None if nothing."""
    if data.get("error"):
        return reported_failure(data, body)
    for choice in objects(data, "choices"):
        if choice.get("error"):
            return reported_failure(choice, body)
        failed = failed_reason(text(choice, "finish_reason", "choices[]."))
        if failed is not None:
            return failed
    return None


def _read(data: Mapping[str, Any], request: ChatRequest) -> LLMOutput:
    warnings: dict[str, str] = {}
    choices = enumerate(objects(data, "choices"))
    return LLMOutput(
        label(data, "id", warnings) or request.request_id,
        request.prompt,
        tuple([_output(choice, place, request) for place, choice in choices]),
        prompt_token_ids=whole_numbers(data, "prompt_token_ids"),
        usage=read_usage(data.get("usage"), CHAT_USAGE, warnings),
        model=label(data, "model", warnings),
        prompt_logprobs=_prompt_logprobs(data),
        warnings=tuple(warnings.values()),
    )


def _output(choice: Mapping[str, Any], place: int, request: ChatRequest) -> CompletionOutput:
    message = required_mapping(choice, "message", "choices[].")
    said, thought = content(message, _MESSAGE), reasoning(message, _MESSAGE) or None
    if thought is None:
        thought, said = split_think(said, request.reasoning)
    calls = tuple([_tool_call(call) for call in objects(message, "tool_calls", _MESSAGE)])
    tokens = choice_logprobs(choice) or None
    index = count(choice, "index", "choices[].")
    return CompletionOutput(
        place if index is None else index,
        said,
        whole_numbers(choice, "token_ids", "choices[]."),
        cumulative(tokens),
        tokens,
        finish_reason(choice, refused=bool(message.get("refusal")), called=bool(calls)),
        stop_reason(choice),
        thought,
        calls,
    )


def finish_reason(choice: Mapping[str, Any], *, refused: bool, called: bool) -> str | None:
    """Why the answer ended, with what servers end with "stop" told apart; None if it did not.

    OpenAI does so for refusals, and OpenAI and vLLM for a call of the tool that was named.
    """
    given = text(choice, "finish_reason", "choices[].") or None  # some gateways send ""
    if given != "stop":
        return given
    return "refusal" if refused else "tool_calls" if called else given


def stop_reason(choice: Mapping[str, Any]) -> int | str | None:
    """The token or the string that stopped the answer; only vLLM tells it."""
    value = choice.get("stop_reason")
    if value is None or (isinstance(value, int | str) and not isinstance(value, bool)):
        return value
    raise wrong("choices[].stop_reason", "text or a whole number", value)


def choice_logprobs(choice: Mapping[str, Any]) -> tuple[Logprob, ...]:
    """The log-probabilities of a choice's tokens; () where there are none."""
    given = mapping(choice, "logprobs", "choices[].")
    return logprobs(given, "content", "choices[].logprobs.") if given else ()


def _tool_call(call: Mapping[str, Any]) -> ToolCall:
    function = required_mapping(call, "function", _CALL)
    return ToolCall(
        text(call, "id", _CALL) or "",
        required_text(function, "name", f"{_CALL}function."),
        json_text(function, "arguments", f"{_CALL}function."),
    )


def _prompt_logprobs(data: Mapping[str, Any]) -> tuple[dict[int, Logprob] | None, ...] | None:
    """Log-probabilities of the prompt, as vLLM gives them: one mapping per token, None first."""
    value = data.get("prompt_logprobs")
    if value is None:
        return None
    if not isinstance(value, list):
        raise wrong("prompt_logprobs", "a list", value)
    return tuple([None if place is None else _by_token_id(place) for place in value])


def _by_token_id(place: Any) -> dict[int, Logprob]:
    if not isinstance(place, dict):
        raise wrong("an item of prompt_logprobs", "an object", place)
    return {
        _token_id(token): Logprob(
            text(entry, "decoded_token", "prompt_logprobs[].") or "",
            number(entry, "logprob", "prompt_logprobs[]."),
        )
        for token in place
        for entry in [required_mapping(place, token, "prompt_logprobs[].")]
    }


def _token_id(token: str) -> int:
    if token.isascii() and token.isdecimal() and len(token) <= _LONGEST_ID:
        return int(token)
    raise wrong("a key of prompt_logprobs", "a token id", token)
