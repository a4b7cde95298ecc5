"""vLLM's outputs in the words of its own server, so that one dialect reads both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.types.errors import InternalServerError
from llmengine.vllm_local.job import END

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from llmengine.types.request import ChatRequest
    from llmengine.vllm_local.reading import Message, Reader

# What vLLM's server says for a probability of nothing, since JSON has no infinity.
_LOWEST = -9999.0


class Answers:
    """Puts what vLLM brings for one request into the words of its server."""

    def __init__(self, request: ChatRequest, reader: Reader) -> None:
        self._request = request
        self._reader = reader
        self._generated = 0

    def of(self, output: Any) -> Iterator[Any]:
        """The bodies for a ``vllm.RequestOutput``: a whole answer, or what it adds to a stream.

        Raises InternalServerError for an answer that vLLM ended by an error of its own.
        """
        self._generated += sum(len(o.token_ids) for o in output.outputs)
        if not self._request.stream:
            yield self._whole(output)
            return
        yield self._chunk(output)
        if output.finished:
            yield self._common(output) | {"choices": [], "usage": self._usage(output)}
            yield END

    def _whole(self, output: Any) -> dict[str, Any]:
        read, prompt = self._reader.message, output.prompt_token_ids
        return self._common(output) | {
            "choices": [self._choice(o, {"message": read(o, prompt)}) for o in output.outputs],
            "prompt_logprobs": _prompt_logprobs(output.prompt_logprobs),
            "usage": self._usage(output),
        }

    def _chunk(self, output: Any) -> dict[str, Any]:
        read, prompt = self._reader.delta, output.prompt_token_ids
        choices = [self._choice(o, {"delta": read(o, prompt)}) for o in output.outputs]
        return self._common(output) | {"choices": choices}

    def _common(self, output: Any) -> dict[str, Any]:
        return {
            "id": output.request_id,
            "model": self._request.model,
            "prompt_token_ids": output.prompt_token_ids,
        }

    def _choice(self, answer: Any, said: Message) -> dict[str, Any]:
        if answer.finish_reason == "error":
            raise InternalServerError("vLLM ended the answer by an error of its own")
        return said | {
            "index": answer.index,
            "token_ids": list(answer.token_ids),
            "logprobs": _logprobs(answer, self._request.sampling.logprobs or 0),
            "finish_reason": self._reader.finish_reason(answer),
            "stop_reason": answer.stop_reason,
        }

    def _usage(self, output: Any) -> dict[str, Any]:
        prompt = len(output.prompt_token_ids or ())
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._generated,
            "total_tokens": prompt + self._generated,
            "prompt_tokens_details": {"cached_tokens": output.num_cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self._reader.reasoning_tokens},
        }


def _logprobs(answer: Any, count: int) -> dict[str, Any] | None:
    """The chosen tokens, each with as many of the most likely as were asked for."""
    if answer.logprobs is None:
        return None
    content = []
    for token_id, place in zip(answer.token_ids, answer.logprobs, strict=True):
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
