"""Asks an engine a set of prompts, so many at a time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.target import at_once
from pytest_llmengine.parity.answering import answer_of
from pytest_llmengine.parity.sampling import pinned

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmengine.engine.engine import Engine
    from llmengine.engine.options import Options
    from pytest_llmengine.parity.answer import Answer
    from pytest_llmengine.parity.prompt import Prompt

    Watch = Callable[[int], None]

# Backends whose server tells token ids when asked; in-process vLLM tells them anyway.
_TELL_IDS = frozenset({"vllm_api"})


def ask(
    engine: Engine, prompts: Sequence[Prompt], batch: int, watch: Watch = lambda _: None
) -> list[Answer]:
    """One answer a prompt, in order; `batch` prompts are under way at once, then the next.

    In-process vLLM computes a batch together; a server does as its scheduler likes. ``watch`` is
    told how many prompts have been answered.
    """
    answers: list[Answer] = []
    for start in range(0, len(prompts), batch):
        answers += _ask_at_once(engine, prompts[start : start + batch])
        watch(len(answers))
    return answers


def _ask_at_once(engine: Engine, prompts: Sequence[Prompt]) -> list[Answer]:
    """A call has one schema and one set of tools, so those who share them share a call."""
    calls: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        calls.setdefault(prompt.needs, []).append(prompt)
    asked = at_once([partial(_call, engine, sharing) for sharing in calls.values()])
    by_id = {answer.id: answer for answers in asked for answer in answers}
    return [by_id[prompt.id] for prompt in prompts]


def _call(engine: Engine, prompts: Sequence[Prompt]) -> list[Answer]:
    logprobs = Capability.LOGPROBS in engine.capabilities
    token_ids = engine.backend in _TELL_IDS
    results = engine.results(
        [list(prompt.messages) for prompt in prompts],
        [pinned(prompt, logprobs=logprobs, token_ids=token_ids) for prompt in prompts],
        **_options(prompts[0]),
    )
    tells = Capability.TOOLS in engine.capabilities
    both = zip(prompts, results, strict=True)
    return [answer_of(prompt, result, tells_calls=tells) for prompt, result in both]


def _options(prompt: Prompt) -> Options:
    options: Options = {"json_schema": prompt.schema, "tools": prompt.tools}
    if prompt.tool_choice is not None:
        options["tool_choice"] = prompt.tool_choice
    return options
