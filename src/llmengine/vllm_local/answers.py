"""vLLM's outputs in the words of its own server, so that one dialect reads both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.values.errors import InternalServerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmengine.values.request import ChatRequest

# What vLLM's server says for a probability of nothing, since JSON has no infinity.
_LOWEST = -9999.0


def whole(output: Any, request: ChatRequest) -> dict[str, Any]:
    """The chat completion of a finished ``vllm.RequestOutput``."""
    return {
        "id": output.request_id,
        "model": request.model,
        "choices": [_choice(o, request) | {"message": {"content": o.text}} for o in output.outputs],
        "prompt_token_ids": output.prompt_token_ids,
        "prompt_logprobs": _prompt_logprobs(output.prompt_logprobs),
        "usage": usage(output, sum(len(o.token_ids) for o in output.outputs)),
    }


def piece(output: Any, request: ChatRequest) -> dict[str, Any]:
    """The chunk of a stream for what one step added to the answers."""
    return {
        "id": output.request_id,
        "model": request.model,
        "choices": [_choice(o, request) | {"delta": {"content": o.text}} for o in output.outputs],
        "prompt_token_ids": output.prompt_token_ids,
    }


def last(output: Any, request: ChatRequest, generated: int) -> dict[str, Any]:
    """The chunk that ends a stream: no choices, and the usage of all of them."""
    return {
        "id": output.request_id,
        "model": request.model,
        "choices": [],
        "usage": usage(output, generated),
    }


def usage(output: Any, generated: int) -> dict[str, Any]:
    """The tokens that vLLM counted."""
    prompt = len(output.prompt_token_ids or ())
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": output.num_cached_tokens},
    }


def _choice(output: Any, request: ChatRequest) -> dict[str, Any]:
    if output.finish_reason == "error":
        raise InternalServerError("vLLM ended the answer by an error of its own")
    return {
        "index": output.index,
        "token_ids": list(output.token_ids),
        "logprobs": _logprobs(output, request.sampling.logprobs or 0),
        "finish_reason": output.finish_reason,
        "stop_reason": output.stop_reason,
    }


def _logprobs(output: Any, count: int) -> dict[str, Any] | None:
    """The chosen tokens, each with as many of the most likely as were asked for."""
    if output.logprobs is None:
        return None
    content = []
    for token_id, place in zip(output.token_ids, output.logprobs, strict=True):
        # vLLM puts the chosen token first, likely or not.
        top = sorted(place.values(), key=lambda logprob: logprob.rank)[:count]
        content.append(_logprob(place[token_id]) | {"top_logprobs": [_logprob(t) for t in top]})
    return {"content": content}


def _logprob(given: Any) -> dict[str, Any]:
    token = given.decoded_token or ""
    raw = list(token.encode("utf-8", "replace"))
    return {"token": token, "logprob": max(given.logprob, _LOWEST), "bytes": raw}


def _prompt_logprobs(
    places: Sequence[Mapping[int, Any] | None] | None,
) -> list[dict[str, Any] | None] | None:
    if places is None:
        return None
    return [
        None if place is None else {str(token): _prompt_logprob(p) for token, p in place.items()}
        for place in places
    ]


def _prompt_logprob(given: Any) -> dict[str, Any]:
    return {"logprob": max(given.logprob, _LOWEST), "decoded_token": given.decoded_token}
