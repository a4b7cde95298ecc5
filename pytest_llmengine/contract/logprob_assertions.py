"""Assertions on log-probabilities that checks share."""

from __future__ import annotations

from typing import Any

from pytest_llmengine.contract.assertions import objects, pick
from pytest_llmengine.contract.outcomes import expect, quote

_NEAR = 0.1  # of two logprobs of one token, in two answers


def close_to(one: object, other: object) -> bool:
    """Whether two JSON values are equal, but for the rounding of fractions."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(close_to(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close_to, one, other))
    if isinstance(one, float) and isinstance(other, (int, float)):
        return abs(one - other) < _NEAR
    return one == other


def expect_alternatives(entries: list[dict[str, Any]]) -> None:
    """Expect of each token its bytes, and that it is the best of its alternatives.

    The answer must have been made at temperature 0, with two alternatives or more.
    """
    for entry in entries:
        tops = objects(entry, "top_logprobs")
        expect(tops, f"two alternatives were asked for, and {entry.get('token')!r} has none")
        for one in (entry, *tops):
            token, data = pick(one, str, "token"), one.get("bytes")
            if data is not None and "\N{REPLACEMENT CHARACTER}" not in token:
                same = list(token.encode()) == data
                expect(same, f"the bytes of {token!r} are {quote(data)}", fact="bytes of tokens")
        best = (tops[0].get("token"), pick(tops[0], float, "logprob"))
        own = (entry["token"], pick(entry, float, "logprob"))
        names = [top.get("token") for top in tops]
        expect(len(set(names)) == len(names), f"an alternative is there twice: {quote(names)}")
        expect(own[0] in names, f"{own[0]!r} is not among its alternatives: {quote(names)}")
        expect(close_to(own[1], best[1]), f"{own[0]!r} has {own[1]}, the best has {best[1]}")
