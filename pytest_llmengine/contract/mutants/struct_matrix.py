"""Mutants of struct.matrix: for each feature, a server that drops it from every schema."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import body
from pytest_llmengine.contract.mutants.registry import mutant
from pytest_llmengine.contract.schema_features import (
    GROUP,
    ORDER,
    SCHEMA_FEATURES,
    without_feature,
)

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON


def _drop(feature: str, request: JSON) -> None:
    wanted = request.get("response_format", {}).get("json_schema")
    if wanted and feature == ORDER:
        del request["response_format"]
    elif wanted:
        wanted["schema"] = without_feature(wanted["schema"], feature)


for _row in SCHEMA_FEATURES:
    mutant(
        f"{GROUP}.{_row.id}",
        Behaviour(f"ignores {_row.feature}", request=body(partial(_drop, _row.feature))),
    )
