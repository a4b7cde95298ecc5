"""POST /v1/embeddings."""

from __future__ import annotations

import base64
import math
import struct
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api


def _vectors(api: Api, **body: Any) -> list[Any]:
    response = api.post("/v1/embeddings", **body)
    assert response.status_code == 200, response.text
    return [row["embedding"] for row in response.json()["data"]]


def test_body_has_every_field_of_openai(reference: Api) -> None:
    """Rows are numbered in order, and the usage counts the input."""
    body = reference.post("/v1/embeddings", input=["a", "b c"]).json()

    assert body.keys() == {"object", "data", "model", "usage"}
    assert [(d["object"], d["index"]) for d in body["data"]] == [("embedding", 0), ("embedding", 1)]
    assert body["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


@pytest.mark.parametrize("dimensions", [1, 3, 384, 1536])
def test_vectors_are_of_length_one(reference: Api, dimensions: int) -> None:
    """A vector has the wanted dimensions and unit norm."""
    (vector,) = _vectors(reference, input="hello", dimensions=dimensions)

    assert len(vector) == dimensions
    assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)


def test_vector_depends_on_the_text_alone(reference: Api) -> None:
    """A text has the same vector in any batch, and another text has another vector."""
    one, two = _vectors(reference, input=["x", "y"])

    assert _vectors(reference, input="y") == [two]
    assert one != two


def test_base64_says_the_same(reference: Api) -> None:
    """The encoded vector holds the same 32-bit floats."""
    (plain,) = _vectors(reference, input="x", encoding_format="float")
    (encoded,) = _vectors(reference, input="x", encoding_format="base64")
    raw = base64.b64decode(encoded)

    assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == plain


@pytest.mark.parametrize(("given", "count"), [([1, 2, 3], 1), ([[1, 2], [3]], 2)])
def test_tokens_are_taken(reference: Api, given: Any, count: int) -> None:
    """One list of tokens is one input; a list of lists is several inputs."""
    assert len(_vectors(reference, input=given)) == count


def test_ollamas_routes_give_the_same_vectors(reference: Api) -> None:
    """One input or several, and the older route with one prompt."""
    one, two = _vectors(reference, input=["x", "y z"])
    whole = reference.post("/api/embed", input=["x", "y z"]).json()
    single = reference.post("/api/embed", input="x", dimensions=3).json()["embeddings"]
    older = reference.post("/api/embeddings", prompt="x").json()

    assert whole["embeddings"] == [one, two]
    assert (whole["model"], whole["prompt_eval_count"]) == ("mock", 3)
    assert [len(vector) for vector in single] == [3]
    assert older == {"embedding": one}
    assert reference.post("/api/embeddings", prompt="").json() == {"embedding": []}
    assert reference.post("/api/embed", model="other", input="x").status_code == 404
