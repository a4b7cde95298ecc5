"""Reading a whole answer of OpenAI's chat format, as servers really send it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.dialects.openai_content import content, reasoning
from llmengine.dialects.reasoning import split_think
from llmengine.dialects.wire import SHAPE_ERRORS, cumulative, logprobs, read_object, unexpected
from llmengine.values.outputs import CompletionOutput, LLMOutput, Logprob, ToolCall, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.values.request import ChatRequest


def decode(body: bytes, request: ChatRequest) -> LLMOutput:
    """The answer in the body of a chat completion.

    Raises UnexpectedResponseError, with a quote of the body, for anything else.
    """
    data = read_object(body)
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices:
        what = (
            "an error in a successful answer" if data.get("error") else "an answer without choices"
        )
        raise unexpected(what, body)
    try:
        outputs = tuple([_output(c, place) for place, c in enumerate(choices)])
        return LLMOutput(
            data.get("id") or request.request_id,
            request.prompt,
            outputs,
            prompt_token_ids=token_ids(data.get("prompt_token_ids")),
            usage=usage(data.get("usage")),
            model=data.get("model"),
            prompt_logprobs=prompt_logprobs(data.get("prompt_logprobs")),
        )
    except SHAPE_ERRORS as exc:
        raise unexpected("the answer is not a chat completion", body) from exc


def _output(choice: Mapping[str, Any], place: int) -> CompletionOutput:
    message = choice["message"]
    text, thought = content(message), reasoning(message) or None
    if thought is None:
        thought, text = split_think(text)
    calls, given = message.get("tool_calls"), choice.get("logprobs")
    tokens = logprobs(given["content"]) if given and given.get("content") else None
    return CompletionOutput(
        choice.get("index", place),
        text,
        token_ids(choice.get("token_ids")),
        cumulative(tokens),
        tokens,
        finish_reason(choice, refused=bool(message.get("refusal")), called=bool(calls)),
        choice.get("stop_reason"),
        thought,
        tuple([_tool_call(c) for c in calls]) if calls else (),
    )


def finish_reason(choice: Mapping[str, Any], *, refused: bool, called: bool) -> str | None:
    """Why the answer ended, with what servers end with "stop" told apart.

    OpenAI does so for refusals, and OpenAI and vLLM for a call of the tool that was named.
    """
    given: str | None = choice.get("finish_reason")
    if given != "stop":
        return given
    return "refusal" if refused else "tool_calls" if called else given


def _tool_call(call: Mapping[str, Any]) -> ToolCall:
    function = call["function"]
    return ToolCall(call.get("id") or "", function["name"], function.get("arguments") or "")


def token_ids(value: list[int] | None) -> tuple[int, ...] | None:
    """Token ids of a prompt or an answer; only vLLM gives them, and only when asked."""
    return tuple(value) if value is not None else None


def usage(value: Mapping[str, Any] | None) -> Usage | None:
    """The token counts of an answer; servers leave the details out or null."""
    if not value:
        return None
    prompt, completion = value.get("prompt_tokens_details"), value.get("completion_tokens_details")
    return Usage(
        value.get("prompt_tokens"),
        value.get("completion_tokens"),
        value.get("total_tokens"),
        prompt.get("cached_tokens") if prompt else None,
        completion.get("reasoning_tokens") if completion else None,
    )


def prompt_logprobs(
    value: list[dict[str, Any] | None] | None,
) -> tuple[dict[int, Logprob] | None, ...] | None:
    """Log-probabilities of the prompt, as vLLM gives them: one mapping a token, None first."""
    if value is None:
        return None
    return tuple([None if place is None else _by_token_id(place) for place in value])


def _by_token_id(place: Mapping[str, Any]) -> dict[int, Logprob]:
    return {
        int(token): Logprob(entry.get("decoded_token") or "", entry["logprob"])
        for token, entry in place.items()
    }
