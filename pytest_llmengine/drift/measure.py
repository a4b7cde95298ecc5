"""Measurement of a server: rounds of requests with pinned values, in random order and load.

A failed request is never left out: its round is asked once more, and if that fails too, the
session ends and says why.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_llmengine.containers.docker import silent

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from llmengine.engine.engine import Engine
    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.drift.answers import DriftAnswer, DriftPrompt, DriftSession
    from pytest_llmengine.drift.baseline import Probe

SAMPLING: dict[str, float] = {
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "seed": 0,
}
"""The sampling values of every request: the likeliest token, without any filter or penalty."""

TOP = 20
"""How many of the likeliest first tokens are asked for."""

_DIGITS = 5  # of a log-probability; smaller differences count as none
_LOWEST = -9999.0  # what vLLM writes for a probability of 0; JSON has no infinity
_RETURN_TOKEN_IDS = frozenset({"vllm_api"})  # whose server returns token ids on request


@dataclass(slots=True)
class Meter:
    """Asks an engine the prompts of a probe, and counts what that costs."""

    engine: Engine
    probe: Probe
    chance: random.Random
    on_progress: OnProgress = silent
    sleep: Callable[[float], None] = time.sleep
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    _ids: set[str] = field(default_factory=set)

    def sessions(
        self, count: int, rounds: int, long_rounds: int, spread: float = 0.0
    ) -> list[DriftSession]:
        """So many sessions of so many rounds, begun evenly over ``spread`` seconds.

        The list ends with the first session that failed.
        """
        raise NotImplementedError

    def session(self, rounds: int, long_rounds: int) -> DriftSession:
        """One session: rounds and long rounds in random order, each under a random load."""
        raise NotImplementedError

    def ask(self, prompts: Sequence[DriftPrompt], load: int) -> list[DriftAnswer]:
        """One answer per prompt; they are sent in random order, so many at a time."""
        raise NotImplementedError
