"""How well a reference of the same weights explains the tokens that a server sampled.

The server answers at temperature 1 with a seed, and the reference samples with the same seed. Each
token of the server is compared with the one that the reference chooses after the same tokens:

- **margin** (Token-DiFR: Karvonen and others, arXiv 2511.20621): how much likelier the token would
  have to be for the reference to choose it, in nats. It is 0 if the reference chooses it too.
- **surprise**: how much less likely the token is under the reference than the reference expects
  of its own samples, in nats. This is 0 on average whatever the context is, so it has less noise
  than the log-probability. It needs no shared seed, as in the rank-based uniformity test (Zhu and
  others, arXiv 2506.06975).

Every token is judged after the server's own tokens, so one token that is another does not make the
rest of the answer another.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, fsum, log
from typing import TYPE_CHECKING

from pytest_llmengine.statistics.two_sample import CAP, ROUNDING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

TOP = 20
"""How many of the likeliest tokens of a position are compared; vLLM gives no more by default."""

_LEAST = 1e-9  # the probability of all other tokens, if rounding leaves none
_DIGITS = 5  # of the numbers in a file
_STEPS = 12  # of a bisection of CAP; the rest is about as small as ROUNDING
_SHARED = 0.25  # of the tokens that do not agree by chance


@dataclass(frozen=True, slots=True)
class TokenScore:
    """One sampled token, judged by the reference.

    ``logprob`` is its log-probability under the reference. ``surprise`` is how much less likely it
    is than the reference expects at this position.
    """

    margin: float
    logprob: float
    surprise: float

    @classmethod
    def of(cls, token: int, logprobs: Mapping[int, float], margin: float) -> TokenScore:
        """The score of a token at a position with these log-probabilities.

        All tokens that are not among the `TOP` likeliest count as one, so that the surprise of the
        reference's own tokens is 0 on average.
        """
        top = sorted(logprobs, key=logprobs.__getitem__, reverse=True)[:TOP]
        rest = log(max(1 - fsum(exp(logprobs[other]) for other in top), _LEAST))
        entropy = -fsum(exp(value) * value for value in (*map(logprobs.__getitem__, top), rest))
        logprob = logprobs[token] if token in top else rest
        return cls(margin, logprobs[token], -logprob - entropy)


def margin_of(is_chosen: Callable[[float], bool]) -> float:
    """The smallest addition to a token's log-probability with which the reference chooses it.

    ``is_chosen`` asks the reference's sampler, with the noise of this position. Margins above
    `CAP` count as `CAP`, so that no token outweighs the rest; those up to `ROUNDING` count as 0.
    """
    if is_chosen(ROUNDING):
        return 0.0
    if not is_chosen(CAP):
        return CAP
    low, high = ROUNDING, CAP
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_chosen(middle) else (middle, high)
    return high


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """The tokens of one answer, judged by the reference.

    ``margin``, ``logprob`` and ``surprise`` are means per token; ``margin`` is None if the server
    does not sample with the reference's noise. ``agreed`` is the number of tokens that the
    reference chooses too. ``by_chance`` is how many it would choose with noise of its own.
    """

    tokens: int
    margin: float | None
    logprob: float
    surprise: float
    agreed: int
    by_chance: float

    @classmethod
    def of(cls, scores: Iterable[TokenScore]) -> AnswerScore:
        """The score of an answer of these tokens."""
        rows = list(scores)
        count = max(1, len(rows))
        return cls(
            tokens=len(rows),
            margin=round(fsum(row.margin for row in rows) / count, _DIGITS),
            logprob=round(fsum(row.logprob for row in rows) / count, _DIGITS),
            surprise=round(fsum(row.surprise for row in rows) / count, _DIGITS),
            agreed=sum(row.margin == 0 for row in rows),
            by_chance=round(fsum(exp(row.logprob) for row in rows), _DIGITS),
        )


def shares_noise(scores: Iterable[AnswerScore]) -> bool:
    """Whether a server samples with the reference's noise, so that margins mean something.

    With noise of its own, it would sample the reference's token as often as that token's
    probability. A server that ignores the seed, or that has another sampler, does so; the
    margins then say nothing about its weights. All answers of a round have one seed, so they do not
    agree independently, and this asks for much more than a few standard deviations.
    """
    rows = list(scores)
    agreed, tokens = sum(row.agreed for row in rows), sum(row.tokens for row in rows)
    by_chance = fsum(row.by_chance for row in rows)
    return tokens > 0 and agreed - by_chance >= _SHARED * (tokens - by_chance)
