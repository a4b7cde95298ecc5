"""Mutants of tools.fields and tools.custom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import body, forgets, refusing
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock.behaviour import JSON


def _description(tool: JSON) -> None:
    tool["function"].pop("description", None)


def _property_description(tool: JSON) -> None:
    for schema in tool["function"]["parameters"]["properties"].values():
        schema.pop("description", None)


def _parameters(tool: JSON) -> None:
    tool["function"].pop("parameters", None)


def _format(tool: JSON) -> None:
    tool["custom"].pop("format", None)


def _dropping(edit: Callable[[JSON], None], *, streams_alone: bool = False) -> Behaviour:
    def each(request: JSON) -> None:
        if request.get("stream") or not streams_alone:
            for tool in request.get("tools", []):
                edit(tool)

    name = f"{edit.__name__.strip('_')} dropped{' in streams' if streams_alone else ''}"
    return Behaviour(name, request=body(each))


for _edit in (_description, _property_description, _parameters):
    mutant(f"tools.fields{_edit.__name__.replace('_', '.', 1)}", _dropping(_edit))
    mutant(
        f"tools.fields{_edit.__name__.replace('_', '.', 1)}_stream",
        _dropping(_edit, streams_alone=True),
    )

mutant(
    "tools.fields.parameters_omitted",
    Behaviour(
        "parameters are required",
        request=refusing(
            lambda request: any(
                "parameters" not in tool["function"] for tool in request.get("tools", [])
            )
        ),
    ),
)
mutant(
    "tools.custom.text", Behaviour("custom tools dropped", request=forgets("tools", "tool_choice"))
)
mutant("tools.custom.grammar", _dropping(_format))
