"""Mutants of chat.stream.tool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import choices, fragments
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON


def _index_as_text(fragment: JSON) -> None:
    fragment["index"] = str(fragment["index"])


def _arguments_twice(fragment: JSON) -> None:
    fragment["function"]["arguments"] *= 2


def _other_arguments(fragment: JSON) -> None:
    part = fragment["function"]["arguments"]
    fragment["function"]["arguments"] = part.replace("Paris", "Rome")


def _new_id(fragment: JSON) -> None:
    fragment.setdefault("id", "call_again")


def _says_stop(choice: JSON) -> None:
    choice["finish_reason"] = choice["finish_reason"] and "stop"


mutant("chat.stream.tool.index_int", Behaviour("a text index", events=fragments(_index_as_text)))
mutant(
    "chat.stream.tool.index_int",
    Behaviour("no index", events=fragments(lambda f: f.pop("index"))),
)
mutant(
    "chat.stream.tool.first_has_id_name",
    Behaviour("no id", events=fragments(lambda f: f.pop("id", None))),
)
mutant(
    "chat.stream.tool.first_has_id_name",
    Behaviour("no name", events=fragments(lambda f: f["function"].pop("name", None))),
)
mutant(
    "chat.stream.tool.first_has_id_name", Behaviour("an id a fragment", events=fragments(_new_id))
)
mutant(
    "chat.stream.tool.args_concat_json",
    Behaviour("every fragment twice", events=fragments(_arguments_twice)),
)
mutant(
    "chat.stream.tool.args_concat_json",
    Behaviour("other arguments", events=fragments(_other_arguments)),
)
mutant(
    "chat.stream.tool.parallel_index",
    Behaviour("one index for all", events=fragments(lambda f: f.update(index=0))),
)
mutant("chat.stream.tool.finish_reason", Behaviour("always stop", events=choices(_says_stop)))
