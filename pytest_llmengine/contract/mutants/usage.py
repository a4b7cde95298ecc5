"""Mutants of usage."""

from __future__ import annotations

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import adding, forgets, put, without
from pytest_llmengine.contract.mutants.registry import mutant

CACHED = ("usage", "prompt_tokens_details", "cached_tokens")

mutant("usage.present_sum", Behaviour("total of 1", reply=put(1, "usage", "total_tokens")))
mutant("usage.present_sum", Behaviour("no total", reply=without("usage", "total_tokens")))
mutant("usage.present_sum", Behaviour("in words", reply=put("8", "usage", "prompt_tokens")))
mutant(
    "usage.n_sums_choices", Behaviour("one choice's", reply=put(4, "usage", "completion_tokens"))
)
mutant("usage.n_sums_choices", Behaviour("n dropped", request=forgets("n")))
mutant("usage.cached_subset", Behaviour("more than all", reply=put(99_999, *CACHED)))
mutant("usage.cached_subset", Behaviour("below zero", reply=put(-1, *CACHED)))

mutant(
    "usage.prompt_tokens_exact",
    Behaviour("one too few", reply=adding(-1, "usage", "prompt_tokens")),
)
mutant("usage.prompt_tokens_exact", Behaviour("a constant", reply=put(9, "usage", "prompt_tokens")))
mutant("usage.cached_tokens", Behaviour("all cached", reply=put(1_000, *CACHED)))
mutant("usage.cached_tokens", Behaviour("more than the prompt", reply=put(99_999, *CACHED)))
mutant("usage.cached_tokens", Behaviour("below zero", reply=put(-1, *CACHED)))
