"""The choice of the prompts of a baseline: those whose first token is the closest call.

If the server shows log-probabilities, one request per candidate finds the prompts whose two
likeliest tokens are closest. If it shows text only, candidates are asked repeatedly at a low
temperature: only prompts with two close tokens then have two answers. These are border inputs
(arXiv 2602.11083), and at temperature 0 the smallest change of the model changes their text. This
finds them on a deterministic server too, which never has two answers at temperature 0.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from llmengine.types.errors import InvalidRequestError
from llmengine.types.request import Capability, ChatRequest
from llmengine.types.sampling import SamplingParams
from pytest_llmengine.containers.docker import silent
from pytest_llmengine.drift.answers import DriftError
from pytest_llmengine.drift.baseline import DriftTier, Probe
from pytest_llmengine.drift.measure import SAMPLING, Meter
from pytest_llmengine.drift.prompts import long_candidates, sampled_prompts, short_candidates

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence

    from llmengine.engine.engine import Engine
    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.drift.answers import DriftAnswer, DriftPrompt

PROMPTS = {DriftTier.LOGPROBS: 10, DriftTier.TEXT: 18}
"""How many short prompts a probe has."""
LONG_PROMPTS = 2

_LOAD = 16
_WARM, _COOL = 0.2, 0.05  # temperatures of the search by text
_FIRST_TIMES, _SECOND_TIMES = 2, 4  # how often each candidate is asked at these
_KEPT = 60  # candidates at most for the second temperature


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The chosen probe and what the search cost; ``note`` describes the prompts in a few words."""

    probe: Probe
    requests: int
    note: str


def search(
    engine: Engine,
    tier: DriftTier | None,
    chance: random.Random,
    on_progress: OnProgress = silent,
    candidates: Sequence[DriftPrompt] | None = None,
) -> SearchResult:
    """Choose the tier, if it is not given, and the prompts; short ones from the candidates.

    Raises DriftError if the server does not answer, or does not show what the tier needs.
    """
    on_progress("search", 0, 1)
    candidates = candidates or short_candidates()
    sampling = {name: value for name, value in SAMPLING.items() if _is_sent(engine, name, value)}
    meter = Meter(engine, Probe(tier=DriftTier.LOGPROBS, sampling=sampling, prompts=()), chance)
    problem = "" if tier is DriftTier.TEXT else _why_no_logprobs(meter, candidates[0])
    if problem and tier is DriftTier.LOGPROBS:
        raise DriftError(f"{engine.name} shows no log-probabilities: {problem}; use --tier text")
    if problem or tier is DriftTier.TEXT:
        meter.probe = replace(meter.probe, tier=DriftTier.TEXT)
        prompts, note = _by_text(meter, candidates, on_progress)
        note += f"; there are no log-probabilities: {problem}" if problem else ""
    else:
        prompts, note = _by_logprobs(meter, candidates)
    # Without a shared seed, sampled answers would differ from each other anyway.
    sampled = sampled_prompts() if "seed" in sampling else ()
    probe = replace(meter.probe, prompts=(*prompts, *_long(meter), *sampled))
    return SearchResult(probe, meter.requests, note)


def _is_sent(engine: Engine, name: str, value: float) -> bool:
    """Whether the engine's protocol can express a sampling value."""
    messages = ({"role": "user", "content": "Hi"},)
    try:
        trial = ChatRequest("", "Hi", messages, SamplingParams.of({name: value}))
        engine.backend.dialect.encode(trial)
    except InvalidRequestError:
        return False
    return True


def _why_no_logprobs(meter: Meter, prompt: DriftPrompt) -> str:
    """Why the server shows no log-probabilities, "" if it does.

    Raises DriftError if it does not answer without them either.
    """
    if Capability.LOGPROBS not in meter.engine.backend.capabilities:
        return "its protocol has none"
    (answer,) = meter.ask([prompt], 1)
    if answer.error:
        meter.probe = replace(meter.probe, tier=DriftTier.TEXT)
        _asked(meter, [prompt])
        return answer.error
    return "" if answer.top else "its answer has none"


def _asked(meter: Meter, prompts: Sequence[DriftPrompt], **values: float) -> list[DriftAnswer]:
    answers = meter.ask(prompts, _LOAD, **values)
    if error := next((answer.error for answer in answers if answer.error), None):
        raise DriftError(f"{meter.engine.name} did not answer a prompt: {error}")
    return answers


def _by_logprobs(meter: Meter, candidates: Sequence[DriftPrompt]) -> tuple[list[DriftPrompt], str]:
    """The prompts whose two likeliest tokens are closest."""
    gaps = dict(zip(candidates, map(_gap, _asked(meter, candidates)), strict=True))
    chosen = sorted(candidates, key=gaps.__getitem__)[: PROMPTS[DriftTier.LOGPROBS]]
    near, far = gaps[chosen[0]], gaps[chosen[-1]]
    return chosen, f"their two likeliest tokens are {near:.2g} to {far:.2g} nats apart"


def _gap(answer: DriftAnswer) -> float:
    first, second, *_ = [*sorted((answer.top or {}).values(), reverse=True), -1e4, -2e4]
    return first - second


def _by_text(
    meter: Meter, candidates: Sequence[DriftPrompt], on_progress: OnProgress
) -> tuple[list[DriftPrompt], str]:
    """Prompts that have two answers at a low temperature, the most even ones first.

    If there are too few, others follow whose answers are as different as possible.
    """
    wanted = PROMPTS[DriftTier.TEXT]
    texts = _texts(meter, candidates, _WARM, _FIRST_TIMES)
    split = [prompt for prompt in candidates if len(set(texts[prompt])) > 1][:_KEPT]
    on_progress("search", 1, 2)
    again = _texts(meter, split, _COOL, _SECOND_TIMES)
    border = sorted(split, key=lambda prompt: max(Counter(again[prompt]).values()))[:wanted]
    note = f"{len(border)} of {wanted} have two answers at temperature {_WARM}"
    return [*border, *_diverse(texts, border)][:wanted], note


def _texts(
    meter: Meter, prompts: Sequence[DriftPrompt], temperature: float, times: int
) -> dict[DriftPrompt, list[str]]:
    """The texts of each prompt, asked so often under other seeds."""
    texts: dict[DriftPrompt, list[str]] = {prompt: [] for prompt in prompts}
    for seed in range(1, times + 1):
        own_seed = {"seed": seed} if "seed" in meter.probe.sampling else {}
        answers = _asked(meter, prompts, temperature=temperature, **own_seed)
        for prompt, answer in zip(prompts, answers, strict=True):
            texts[prompt].append(answer.text)
    return texts


def _diverse(
    texts: dict[DriftPrompt, list[str]], without: Iterable[DriftPrompt]
) -> list[DriftPrompt]:
    """All other prompts: first one of each answer, then a second one of each, and so on."""
    groups: dict[str, list[DriftPrompt]] = {}
    for prompt, found in texts.items():
        if prompt not in without:
            groups.setdefault(found[0], []).append(prompt)
    turns = zip_longest(*groups.values())
    return [prompt for turn in turns for prompt in turn if prompt is not None]


def _long(meter: Meter) -> list[DriftPrompt]:
    """The long prompts with the most uncertain tokens; the first ones if that is not shown."""
    candidates = list(long_candidates())
    if meter.probe.tier is DriftTier.LOGPROBS:
        answers = _asked(meter, candidates)
        certain = {p: sum(a.logprobs or ()) for p, a in zip(candidates, answers, strict=True)}
        candidates.sort(key=certain.__getitem__)
    return candidates[:LONG_PROMPTS]
