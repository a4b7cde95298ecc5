"""Token ids and log-probabilities of a real vLLM server."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import pytest

from llmengine import InvalidRequestError, SamplingParams

if TYPE_CHECKING:
    from llmengine import Engine

PROMPT = "What is the capital of France?"
GREEDY = SamplingParams(temperature=0, max_tokens=12, return_token_ids=True, logprobs=1)


def test_token_ids_and_logprobs_are_the_answers_own(live: Engine) -> None:
    """There is one id and one log-probability per generated token, and the sum is theirs."""
    (output,) = live.generate(PROMPT, GREEDY)
    (answer,) = output.outputs
    assert output.prompt_token_ids is not None
    assert output.usage is not None
    assert len(output.prompt_token_ids) == output.usage.prompt_tokens
    assert answer.token_ids is not None
    assert answer.logprobs is not None
    assert len(answer.token_ids) == len(answer.logprobs) == output.usage.completion_tokens
    assert answer.cumulative_logprob == pytest.approx(sum(t.logprob for t in answer.logprobs))
    assert all(t.logprob <= t.top[0].logprob for t in answer.logprobs)


def test_a_stream_gives_the_same_token_ids(live: Engine) -> None:
    """A greedy answer has the same ids; those of the prompt come once, first."""
    (output,) = live.generate(PROMPT, GREEDY)
    deltas = list(live.stream(PROMPT, GREEDY))
    assert deltas[0].prompt_token_ids == output.prompt_token_ids
    assert all(d.prompt_token_ids is None for d in deltas[1:])
    assert tuple(chain.from_iterable(d.token_ids for d in deltas)) == output.outputs[0].token_ids


def test_prompt_logprobs_are_by_token(live: Engine) -> None:
    """Each prompt token but the first has its own log-probability, by its id."""
    sampling = SamplingParams(max_tokens=1, prompt_logprobs=0, return_token_ids=True)
    (output,) = live.generate(PROMPT, sampling)
    assert output.prompt_logprobs is not None
    assert output.prompt_token_ids is not None
    assert output.prompt_logprobs[0] is None
    pairs = zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:], strict=True)
    assert all(place is not None and token in place for token, place in pairs)


def test_what_was_not_asked_for_is_unknown(live: Engine) -> None:
    """Ids and log-probabilities that the server did not send are None, not empty."""
    (output,) = live.generate(PROMPT, SamplingParams(max_tokens=2))
    (answer,) = output.outputs
    assert (output.prompt_token_ids, output.prompt_logprobs) == (None, None)
    assert (answer.token_ids, answer.logprobs, answer.cumulative_logprob) == (None, None, None)


def test_prompt_logprobs_of_a_stream_are_refused(live: Engine) -> None:
    """The server would silently leave them out, so nothing is sent."""
    with pytest.raises(InvalidRequestError, match="prompt_logprobs"):
        next(live.stream(PROMPT, SamplingParams(prompt_logprobs=0)))
