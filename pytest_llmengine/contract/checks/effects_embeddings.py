"""Checks of effects.embeddings: what the fields of an embeddings request change."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import objects, pick, rejected
from pytest_llmengine.contract.checks.effects import SINCE, ignored
from pytest_llmengine.contract.checks.embeddings import close, embed, vector
from pytest_llmengine.contract.facts import lost_from
from pytest_llmengine.contract.outcomes import Unmeasured, expect, quote
from pytest_llmengine.contract.registry import EXPECTED, EXTENDED, OPTIONAL, REQUIRED, check

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

SPEC = "openai-openapi: CreateEmbeddingRequest"
rule = partial(check, tier=EXTENDED, needs={Capability.EMBEDDINGS}, since=SINCE)
_SAME = 0.999  # batches of other sizes are computed with other roundings
TEXTS = ["The sea is blue.", "Ants", "Numbers: 1, 2, 3"]


@rule("effects.embeddings.dimensions", level=OPTIONAL, source=f"{SPEC}.dimensions")
def dimensions(target: Target) -> None:
    """A vector has as many numbers as dimensions says.

    An index with a fixed number of dimensions takes none of the vectors.
    """
    plain = len(vector(embed(target, "Hello")))
    wanted = max(1, plain // 2)
    if wanted == plain:
        raise Unmeasured("the vectors have one number, so there cannot be fewer")
    came = len(vector(embed(target, "Hello", dimensions=wanted)))
    if came == plain:
        raise ignored("dimensions", f"{came} numbers came instead of {wanted}")
    expect(came == wanted, f"{came} numbers came instead of {wanted}")


def _cosine(one: list[float], other: list[float]) -> float:
    expect(len(one) == len(other), f"vectors of {len(one)} and {len(other)} numbers")
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / (lengths or 1.0)


@rule("effects.embeddings.order", level=REQUIRED, source=f"{SPEC}.input: array of strings")
def order(target: Target) -> None:
    """The vector of a text does not depend on the order of the list.

    A search finds other texts if they were indexed in another order.
    """
    there, back = (embed(target, texts) for texts in (TEXTS, TEXTS[::-1]))
    last = len(TEXTS) - 1
    for index, text in enumerate(TEXTS):
        cosine = _cosine(vector(there, index), vector(back, last - index))
        expect(
            cosine > _SAME,
            f"in the reverse order, {text!r} has another vector, with a cosine of {cosine:.4f}",
        )
    expect(not close(vector(there, 0), vector(there, 1)), "two texts have the same vector")


@rule(
    "effects.embeddings.usage_sum",
    level=EXPECTED,
    source="openai-openapi: CreateEmbeddingResponse.usage",
)
def usage_sum(target: Target) -> None:
    """The usage of a list is the sum of the usages of its texts.

    The costs that an application adds up are wrong.
    """
    alone = [pick(_usage(embed(target, text)), int, "prompt_tokens") for text in TEXTS]
    usage = _usage(embed(target, TEXTS))
    came = pick(usage, int, "prompt_tokens")
    expect(came == sum(alone), f"the list has {came} tokens, its texts {quote(alone)}")
    total = pick(usage, int, "total_tokens")
    expect(total == came, f"the total is {total} tokens, the prompt has {came}")


def _usage(body: dict[str, Any]) -> dict[str, Any]:
    lost = lost_from("embeddings", ["usage"])
    expect("usage" in body, f"there is no usage: {quote(list(body))}", fact=lost)
    return pick(body, dict, "usage")


@rule("effects.embeddings.user", level=OPTIONAL, source=f"{SPEC}.user")
def user(target: Target) -> None:
    """The user of an embedding is a string: a number is rejected.

    A server that does not know the field cannot report or limit the user of an application.
    """
    objects(embed(target, "Hello", user="user-1"), "data")
    body = {"model": target.model, "input": "Hello", "user": 1}
    rejected(target.post("/embeddings", body), "a user that is a number")
