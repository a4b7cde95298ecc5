"""Mutants of emb."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import body, crashes_on, forgets, rule_off
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON


def _one_text(request: JSON) -> None:
    if isinstance(request.get("input"), list):
        request["input"] = str(request["input"])


def _reversed_vectors(reply: JSON) -> None:
    vectors = [entry["embedding"] for entry in reply["data"]]
    for entry, vector in zip(reply["data"], reversed(vectors), strict=True):
        entry["embedding"] = vector


def _reversed_base64(reply: JSON) -> None:
    for entry in reply["data"]:
        if isinstance(entry["embedding"], str):
            entry["embedding"] = entry["embedding"][::-1]


mutant("emb.shape", Behaviour("no usage", reply=body(lambda b: b.pop("usage"))))
mutant(
    "emb.shape", Behaviour("no index", reply=body(lambda b: [d.pop("index") for d in b["data"]]))
)
mutant("emb.batch_order", Behaviour("vectors swapped", reply=body(_reversed_vectors)))
mutant("emb.batch_order", Behaviour("swapped", reply=body(lambda b: b["data"].reverse())))
mutant("emb.base64", Behaviour("format ignored", request=forgets("encoding_format")))
mutant("emb.base64", Behaviour("other bytes", reply=body(_reversed_base64)))
mutant("emb.tokens_input", Behaviour("one text of all", request=body(_one_text)))
rule_off("emb.empty_input")
mutant("emb.empty_input", Behaviour("crashes", wire=crashes_on(b'"input": []')))
