"""Generated mutants: every mutation of the reference, and what notices it.

The rules are run on the reference once, which shows which rule reads which place of an answer. Each
mutant is then tried with the rules that read the mutated place, until one notices it.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Self

from llmengine.mock import MockServer
from pytest_llmengine.contract.accepted_mutants import reason_to_accept
from pytest_llmengine.contract.mutations import Mutation, Mutator, mutations
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.contract.runner import run_check
from pytest_llmengine.contract.surface import API_KEY, LIMITS, Surface, record_surface
from pytest_llmengine.contract.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_llmengine.contract.registry import Check

GOAL = 0.95
"""The least share of the mutants that break the specification which the rules must notice."""

_BATCH = 10  # mutants that a process gets at once; an interrupt waits for them

OnTried = Callable[[int, int], None]
"""Is told how many mutants were tried, and of how many."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a mutant: the id of the rule that noticed it, or "" if none did."""

    mutation: Mutation
    noticed_by: str = ""


@dataclass(frozen=True)
class GeneratedCoverage:
    """What became of the mutants that were tried; mutants that change no answer are left out.

    ``untried`` is the number of mutants that were left when the run was interrupted.
    """

    fates: Sequence[Fate] = field(default=())
    untried: int = 0

    @cached_property
    def survivors(self) -> list[Mutation]:
        """The mutants that no rule noticed, and that break the specification."""
        return [m for m in self._unnoticed if not reason_to_accept(m)]

    @cached_property
    def accepted(self) -> Mapping[str, list[Mutation]]:
        """The mutants that no rule noticed, and that are accepted, by the reason."""
        found: dict[str, list[Mutation]] = {}
        for mutation in self._unnoticed:
            if reason := reason_to_accept(mutation):
                found.setdefault(reason, []).append(mutation)
        return found

    @property
    def _unnoticed(self) -> list[Mutation]:
        return sorted(fate.mutation for fate in self.fates if not fate.noticed_by)

    @property
    def killed(self) -> int:
        """The number of mutants that a rule noticed."""
        return sum(bool(fate.noticed_by) for fate in self.fates)

    @property
    def share(self) -> float:
        """The share of the mutants that break the specification which a rule noticed."""
        breaking = self.killed + len(self.survivors)
        return self.killed / breaking if breaking else 0.0

    @property
    def complete(self) -> bool:
        """Whether all were tried and the goal is reached."""
        return not self.untried and self.share >= GOAL

    def to_dict(self) -> dict[str, Any]:
        """The counts, the survivors, and the number of accepted survivors by reason."""
        return {
            "total": len(self.fates),
            "killed": self.killed,
            "accepted": {reason: len(found) for reason, found in self.accepted.items()},
            "survivors": [str(mutation) for mutation in self.survivors],
            "untried": self.untried,
        }

    def lines(self) -> Iterator[str]:
        """The same as text, with every accepted survivor under its reason."""
        accepted = sum(map(len, self.accepted.values()))
        yield (
            f"{len(self.fates)} generated mutants: {self.killed} noticed, {len(self.survivors)} "
            f"survive, {accepted} accepted; {self.share:.1%} of those that break the specification "
            f"are noticed (the goal is {GOAL:.0%})"
        )
        if self.untried:
            yield f"interrupted: {self.untried} more mutants were not tried"
        yield from (f"survives: {mutation}" for mutation in self.survivors)
        for reason, found in self.accepted.items():
            yield f"accepted: {reason}"
            yield from (f"    {mutation}" for mutation in found)


def measure_generated(
    checks: Iterable[Check],
    *,
    sample: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    on_tried: OnTried | None = None,
) -> GeneratedCoverage:
    """Try the mutants of everything that these checks read, or a sample of them.

    `seed` draws the sample. With several `jobs`, the checks must be those of the catalogue, because
    each process imports them. After an interrupt, the result has what was tried until then.
    """
    usable = {c.id: c for c in checks if _is_usable(c)}
    surface = record_surface(list(usable.values()))
    chosen = list(mutations(surface))
    if sample is not None and sample < len(chosen):
        chosen = sorted(random.Random(seed).sample(chosen, sample))  # nosec B311  # noqa: S311 - repeatable
    batches = [chosen[start : start + _BATCH] for start in range(0, len(chosen), _BATCH)]
    fates: list[Fate] = []
    tried = 0
    with suppress(KeyboardInterrupt):
        for batch, found in zip(batches, _fates(batches, usable, surface, jobs), strict=True):
            fates += found
            tried += len(batch)
            if on_tried:
                on_tried(tried, len(chosen))
    return GeneratedCoverage(fates, len(chosen) - tried)


def _fates(
    batches: Sequence[Sequence[Mutation]],
    usable: Mapping[str, Check],
    surface: Surface,
    jobs: int,
) -> Iterator[list[Fate]]:
    """The fates of each batch, in order."""
    if jobs == 1:
        with MutantRunner(usable, surface) as runner:
            yield from map(runner.fates, batches)
        return
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=_begin, initargs=(list(usable), surface)
    ) as pool:
        yield from pool.map(_try, batches)


def _is_usable(check: Check) -> bool:
    """Whether a check reads answers, in a short time, by requests of its own."""
    return not (check.missing or check.driver or check.alone or check.heavy)


class MutantRunner:
    """A mock server with one mutation at a time, and the checks that may notice it."""

    def __init__(self, checks: Mapping[str, Check], surface: Surface) -> None:
        self._checks = checks
        self._surface = surface
        self._kills: Counter[tuple[str, str]] = Counter()
        self._mutator = Mutator()
        self._stack = ExitStack()
        server = self._stack.enter_context(
            MockServer(behaviour=self._mutator.behaviour, api_key=API_KEY)
        )
        self._target = self._stack.enter_context(
            Target(server.base_url, server.model, api_key=API_KEY, limits=LIMITS)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def fates(self, chosen: Iterable[Mutation]) -> list[Fate]:
        """What becomes of each mutant that changes an answer."""
        return [fate for mutation in chosen for fate in self._try_out(mutation)]

    def _try_out(self, mutation: Mutation) -> Iterator[Fate]:
        self._mutator.use(mutation)
        for check in self._readers(mutation):
            result = run_check(self._checks[check], self._target, Profile("mock"))
            if result.failed and result.outcome is not Outcome.ERROR:
                self._kills[mutation.place.kind, check] += 1
                yield Fate(mutation, check)
                return
        if self._mutator.changed:
            yield Fate(mutation)

    def _readers(self, mutation: Mutation) -> list[str]:
        """The checks that read the place; fast ones that noticed many mutants come first."""
        kind, seconds = mutation.place.kind, self._surface.seconds
        return sorted(
            self._surface.readers[mutation.place],
            key=lambda check: (seconds[check] / (1 + self._kills[kind, check]), check),
        )


_runner: MutantRunner | None = None  # of a process of the pool; it ends with the process


def _begin(ids: Sequence[str], surface: Surface) -> None:
    global _runner  # noqa: PLW0603 - the pool has no other place for it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the run in the first process
    known = catalogue()
    _runner = MutantRunner({name: known[name] for name in ids}, surface)


def _try(batch: Sequence[Mutation]) -> list[Fate]:
    assert _runner is not None
    return _runner.fates(batch)
