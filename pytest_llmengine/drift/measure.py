"""Measurement of a server: rounds of requests with pinned values, in random order and load.

A failed request is never left out: its round is asked once more, and if that fails too, the
session ends and says why.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from llmengine.types.sampling import SamplingParams
from llmengine.types.secrets import scrub
from pytest_llmengine.containers.docker import silent
from pytest_llmengine.drift.answers import DriftAnswer, DriftRound, DriftSession, RoundKind
from pytest_llmengine.drift.baseline import DriftTier
from pytest_llmengine.targets.pinned import PINNED

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    from llmengine.engine.engine import Engine
    from llmengine.types.outputs import CompletionOutput, Logprob
    from llmengine.types.results import Result
    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.drift.answers import DriftPrompt
    from pytest_llmengine.drift.baseline import Probe

SAMPLING = {name: value for name, value in PINNED.items() if name != "temperature"}
"""The sampling values that all prompts share; each prompt has its own temperature."""

TOP = 20
"""How many of the likeliest first tokens are asked for."""

SEEDS = 2**31
"""Seeds of rounds are drawn below this."""

_DIGITS = 5  # of a log-probability; smaller differences count as none
_LOWEST = -9999.0  # what vLLM writes for a probability of 0; JSON has no infinity
Kinds = tuple[RoundKind, ...]
"""Kinds of rounds that are asked at the same time."""

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
        self, count: int, rounds: Mapping[RoundKind, int], spread: float = 0.0
    ) -> list[DriftSession]:
        """So many sessions, begun evenly over ``spread`` seconds.

        The list ends with the first session that failed.
        """
        began = time.monotonic()
        measured: list[DriftSession] = []
        for n in range(count):
            start = began + spread * n / max(count - 1, 1)
            self.sleep(max(0.0, start - time.monotonic()))
            measured.append(self.session(rounds, f"session {n + 1} of {count}, rounds"))
            if measured[-1].error:
                break
        return measured

    def session(self, rounds: Mapping[RoundKind, int], what: str = "rounds") -> DriftSession:
        """One session: so many rounds of each kind in random order, under all loads in turn."""
        before = self.requests, self.prompt_tokens, self.completion_tokens
        steps = self._steps({k: n for k, n in rounds.items() if self.probe.of_kind(k)})
        measured: list[DriftRound] = []
        error = ""
        for done, (kinds, load) in enumerate(steps):
            self.on_progress(what, done, len(steps))
            asked = self._rounds(kinds, load)
            error = next((a.error for one in asked for a in one.answers if a.error), "")
            if error:
                error = f"a request failed, and again when its round was repeated: {error}"
                break
            measured += asked
        return DriftSession(
            rounds=tuple(measured),
            error=error,
            requests=self.requests - before[0],
            prompt_tokens=self.prompt_tokens - before[1],
            completion_tokens=self.completion_tokens - before[2],
        )

    def _steps(self, rounds: Mapping[RoundKind, int]) -> list[tuple[Kinds, int]]:
        """The kinds of rounds that are asked at the same time, and their load, in random order.

        Long and sampled answers are few. They are asked together, so that there are batches also
        of them, and the baseline shows what these do to the answers.
        """
        together = (RoundKind.LONG, RoundKind.SAMPLED)
        pairs = min(rounds.get(kind, 0) for kind in together)
        counts: dict[Kinds, int] = {together: pairs}
        counts |= {(k,): n - pairs if k in together else n for k, n in rounds.items()}
        steps = [(kinds, load) for kinds, n in counts.items() for load in self._loads(n)]
        self.chance.shuffle(steps)
        return steps

    def _loads(self, count: int) -> list[int]:
        """So many loads: each of the probe's as often as the others, and the rest at random."""
        loads = self.probe.loads
        whole, rest = divmod(count, len(loads))
        return [*loads * whole, *self.chance.sample(loads, rest)]

    def _rounds(self, kinds: Kinds, load: int) -> list[DriftRound]:
        """One round of each kind; if an answer failed, those that were asked once more."""
        prompts = [(n, prompt) for kind in kinds for n, prompt in self.probe.of_kind(kind).items()]
        seed = {"seed": self.chance.randrange(SEEDS)} if RoundKind.SCORED in kinds else {}
        for _ in range(2):
            now = datetime.now(UTC).isoformat(timespec="seconds")
            answers = self.ask([prompt for _, prompt in prompts], load, **seed)
            if all(answer.error is None for answer in answers):
                break
        numbered = [
            (p.kind, replace(a, prompt=n)) for (n, p), a in zip(prompts, answers, strict=True)
        ]
        return [
            DriftRound(
                kind=kind,
                load=load,
                time=now,
                answers=tuple(answer for of, answer in numbered if of is kind),
                **seed,
            )
            for kind in kinds
        ]

    def ask(self, prompts: Sequence[DriftPrompt], load: int, **values: Any) -> list[DriftAnswer]:
        """One answer per prompt; they are sent in random order, so many at a time.

        ``values`` replace sampling values of all prompts.
        """
        order = self.chance.sample(range(len(prompts)), len(prompts))
        answers: dict[int, DriftAnswer] = {}
        for start in range(0, len(order), load):
            chosen = order[start : start + load]
            results = self.engine.results(
                [prompts[n].text for n in chosen],
                [self._sampling(prompts[n], values) for n in chosen],
            )
            answers |= zip(chosen, map(self._answer, chosen, results), strict=True)
        return [answers[n] for n in range(len(prompts))]

    def _sampling(self, prompt: DriftPrompt, values: Mapping[str, Any]) -> SamplingParams:
        own = {"max_tokens": prompt.max_tokens, "temperature": prompt.temperature}
        return SamplingParams(
            **{**self.probe.sampling, **own, **values},
            logprobs=TOP if self.probe.tier is DriftTier.LOGPROBS else None,
            return_token_ids=self.engine.backend.name in _RETURN_TOKEN_IDS or None,
        )

    def _answer(self, prompt: int, result: Result) -> DriftAnswer:
        """The answer in a result, or its error; known keys are removed."""
        self.requests += result.attempts
        if result.usage is not None:
            self.prompt_tokens += result.usage.prompt_tokens or 0
            self.completion_tokens += result.usage.completion_tokens or 0
        if result.output is None or result.error is not None:
            error = result.error
            return DriftAnswer(prompt=prompt, error=scrub(f"{type(error).__name__}: {error}"))
        output = result.output
        repeated = output.request_id in self._ids
        self._ids.add(output.request_id)
        first, usage = output.outputs[0], output.usage
        return DriftAnswer(
            prompt=prompt,
            text=scrub((first.reasoning or "") + first.text),
            token_ids=first.token_ids,
            finish_reason=first.finish_reason,
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            repeated=repeated,
            **_logprobs(first),
        )


def _logprobs(output: CompletionOutput) -> dict[str, Any]:
    """The fields of an answer that come from its log-probabilities."""
    if not output.logprobs:
        return {}
    top = {_text(entry): _number(entry) for entry in reversed(output.logprobs[0].top)}
    return {
        "tokens": tuple(map(_text, output.logprobs)),
        "logprobs": tuple(map(_number, output.logprobs)),
        "top": dict(sorted(top.items(), key=lambda item: -item[1])) or None,
    }


def _text(entry: Logprob) -> str:
    """The token's text, with the bytes of an incomplete character as hexadecimal numbers."""
    if entry.bytes is None:
        return entry.token
    return bytes(entry.bytes).decode("utf-8", "backslashreplace")


def _number(entry: Logprob) -> float:
    return round(max(entry.logprob, _LOWEST), _DIGITS)
