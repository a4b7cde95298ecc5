"""Mutants of comp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import body, chunks, events, forgets, rule_off
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON

COUNTS = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def _first_prompt_only(request: JSON) -> None:
    if isinstance(request.get("prompt"), list):
        request["prompt"] = request["prompt"][0]


def _ids_as_text(request: JSON) -> None:
    if isinstance(request.get("prompt"), list):
        request["prompt"] = " and ".join(map(str, request["prompt"])) * 2


def _last_with_choices(found: list[JSON]) -> list[JSON]:
    found[-1]["choices"] = found[-1]["choices"] or found[-2]["choices"]
    return found


mutant(
    "comp.shape",
    Behaviour("no logprobs", reply=body(lambda b: [c.pop("logprobs") for c in b["choices"]])),
)
mutant(
    "comp.shape",
    Behaviour("chat's object", reply=body(lambda b: b.update(object="chat.completion"))),
)
mutant("comp.prompt.list", Behaviour("one prompt of many", request=body(_first_prompt_only)))
mutant("comp.prompt.tokens", Behaviour("token ids as text", request=body(_ids_as_text)))
mutant(
    "comp.stream.usage",
    Behaviour("include_usage ignored", request=forgets("stream_options")),
)
mutant("comp.stream.usage", Behaviour("beside the choices", events=events(_last_with_choices)))
mutant(
    "comp.stream.usage",
    Behaviour("in every chunk", events=chunks(lambda c: c.update(usage=c.get("usage") or COUNTS))),
)
rule_off("comp.missing_prompt")
