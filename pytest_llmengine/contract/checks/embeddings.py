"""Checks of emb: the embeddings endpoint."""

from __future__ import annotations

import base64
import binascii
import struct
from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import missing, objects, pick, rejected
from pytest_llmengine.contract.facts import lost_from
from pytest_llmengine.contract.outcomes import expect, expect_effect, fail, quote
from pytest_llmengine.contract.registry import EXTENDED, REQUIRED, check

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="embeddings")

SPEC = "openai-openapi: CreateEmbedding"
NEEDS = {Capability.EMBEDDINGS}
_CLOSE = 1e-3


@rule("emb.shape", level=REQUIRED, tier=EXTENDED, source=f"{SPEC}Response.required", needs=NEEDS)
def shape(target: Target) -> None:
    """Embeddings have object, data, model and usage, and each entry its index and vector.

    The openai SDK's types promise these fields, so that reading them raises an error.
    """
    body = embed(target, "Hello")
    absent = missing(body, "object", "data", "model", "usage")
    lost = f"missing: {', '.join(absent)}"
    expect(not absent, lost, fact=lost_from("embeddings", absent))
    expect(body["object"] == "list", f"object is {body['object']!r}")
    expect(pick(body, str, "data", 0, "object") == "embedding", f"entry: {quote(body['data'][0])}")
    expect(pick(body, int, "data", 0, "index") == 0, f"index is {body['data'][0]['index']}")
    expect(vector(body), "the vector is empty")
    pick(body, int, "usage", "prompt_tokens")
    pick(body, int, "usage", "total_tokens")


@rule(
    "emb.batch_order",
    level=REQUIRED,
    tier=EXTENDED,
    source=f"{SPEC}Response.data.index",
    needs=NEEDS,
)
def batch_order(target: Target) -> None:
    """The vectors of a list come in its order, each the vector of its own text.

    An index stores the vectors of other texts.
    """
    texts = ["The sea is blue.", "Ants", "Numbers: 1, 2, 3"]
    batch = embed(target, texts)
    indexes = [pick(entry, int, "index") for entry in objects(batch, "data")]
    expect(indexes == [0, 1, 2], f"the indexes are {indexes}")
    alone = vector(embed(target, texts[2]))
    expect(close(alone, vector(batch, 2)), "the third vector is not that of the third text")
    expect(not close(alone, vector(batch, 0)), "the first vector is that of the third text")


@rule(
    "emb.base64",
    level=REQUIRED,
    tier=EXTENDED,
    source="openai-openapi: CreateEmbeddingRequest.encoding_format; openai-python 3.3.1: "
    "src/openai/resources/embeddings.py: asks for base64 by default",
    needs=NEEDS,
)
def base64_format(target: Target) -> None:
    """encoding_format base64 gives the same vector as 32-bit little-endian floats.

    The openai SDK asks for base64 unless told otherwise, and decodes wrong numbers.
    """
    body = embed(target, "Hello", encoding_format="base64")
    given = pick(body, dict, "data", 0).get("embedding")
    expect_effect(not isinstance(given, list), "base64 was accepted and a list of numbers came")
    try:
        raw = base64.b64decode(pick(body, str, "data", 0, "embedding"), validate=True)
        decoded = [number for (number,) in struct.iter_unpack("<f", raw)]
    except (binascii.Error, struct.error) as error:
        fail(f"no base64 of 32-bit floats: {error}: {quote(given)}")
    plain = vector(embed(target, "Hello", encoding_format="float"))
    expect(close(decoded, plain), f"base64 {quote(decoded[:3])}, float {quote(plain[:3])}")


@rule(
    "emb.tokens_input",
    level=REQUIRED,
    tier=EXTENDED,
    source=f"{SPEC}Request.input: array of tokens",
    needs=NEEDS,
)
def tokens_input(target: Target) -> None:
    """A list of token ids is one text, and a list of such lists several.

    LangChain's client sends token ids, and gets vectors of other texts.
    """
    one = objects(embed(target, [1000, 1001, 1002]), "data")
    expect(len(one) == 1, f"{len(one)} vectors for one list of token ids")
    two = objects(embed(target, [[1000, 1001], [1002]]), "data")
    expect(len(two) == 2, f"{len(two)} vectors for two lists of token ids")


@rule(
    "emb.empty_input",
    level=REQUIRED,
    tier=EXTENDED,
    source=f"{SPEC}Request.input: cannot be an empty string",
    needs=NEEDS,
)
def empty_input(target: Target) -> None:
    """An empty string and an empty list are a 400.

    A program that lost a text stores a vector of nothing.
    """
    embed(target, "Hello")
    empties: tuple[object, ...] = ("", [])
    for empty in empties:
        reply = target.post("/embeddings", {"model": target.model, "input": empty})
        rejected(reply, f"the input {empty!r}")


def embed(target: Target, text: object, **params: Any) -> dict[str, Any]:
    """The embeddings of a text or a list; after a clear refusal the check ends as refused."""
    body = {"model": target.model, "input": text} | params
    return target.post("/embeddings", body).success_or_refused()


def vector(body: dict[str, Any], index: int = 0) -> list[float]:
    """The numbers of one entry."""
    return [pick(number, float) for number in pick(body, list, "data", index, "embedding")]


def close(one: list[float], other: list[float]) -> bool:
    """Whether two vectors are equal except for rounding."""
    scale = max(map(abs, one), default=1.0) or 1.0
    return len(one) == len(other) and all(
        abs(a - b) <= _CLOSE * scale for a, b in zip(one, other, strict=True)
    )
