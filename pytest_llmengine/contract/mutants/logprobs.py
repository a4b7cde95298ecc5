"""Mutants of logprobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import answer, body, forgets, rule_off
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock.behaviour import JSON
    from pytest_llmengine.contract.mutants.hooks import Hook

IGNORED = Behaviour("logprobs ignored", request=forgets("logprobs", "top_logprobs"))


def _logprobs(edit: Callable[[JSON], object]) -> Hook:
    return answer(lambda choice: choice["logprobs"] and edit(choice["logprobs"]))


def _entries(edit: Callable[[JSON], object]) -> Hook:
    return _logprobs(lambda logprobs: [edit(entry) for entry in logprobs["content"]])


def _five_unasked(request: JSON) -> None:
    if request.get("logprobs"):
        request.setdefault("top_logprobs", 5)


mutant("logprobs.supported", IGNORED)
mutant(
    "logprobs.supported", Behaviour("no entries", reply=_logprobs(lambda p: p["content"].clear()))
)
mutant("logprobs.shape", Behaviour("no refusal", reply=_logprobs(lambda p: p.pop("refusal"))))
mutant("logprobs.shape", Behaviour("no bytes", reply=_entries(lambda e: e.pop("bytes"))))
mutant(
    "logprobs.shape",
    Behaviour("no alternatives", reply=_entries(lambda e: e.update(top_logprobs=[]))),
)
mutant(
    "logprobs.length_matches_tokens",
    Behaviour("the last token without", reply=_logprobs(lambda p: p["content"].pop())),
)
mutant("logprobs.default_top_empty", Behaviour("five unasked", request=body(_five_unasked)))

for _rule in ("logprobs.top.requires_logprobs", "logprobs.top.max20"):
    rule_off(_rule)

mutant(
    "logprobs.values",
    Behaviour("a probability of 2", reply=_entries(lambda e: e.update(logprob=0.7))),
)
mutant(
    "logprobs.values",
    Behaviour("the least likely first", reply=_entries(lambda e: e["top_logprobs"].reverse())),
)
mutant(
    "logprobs.values",
    Behaviour("a byte lost", reply=_entries(lambda e: e["bytes"].pop())),
)
