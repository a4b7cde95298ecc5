"""Measure false alarms and power of the drift tests on simulated servers.

    python benchmarks/drift_simulation.py --years 1000 --looks 1000

A simulated server answers each prompt with the log-probabilities of its likeliest tokens, and with
the text of the likeliest. Its noise is one of `NOISES`. A change adds a shift to every
log-probability, with a sign of its own. The rules are those of `pytest_llmengine.statistics`.

- Nightly looks: in how many years of 365 nights any look raises an alarm, and in which night after
  a change. A look is a night, or each round of a night; scores may have a tolerance.
- One look: how many false alarms there are, and how many changes are found.

The exit status is 1 if more false alarms are seen than a valid test has with a chance of 0.001.
Rows marked with * show what is not valid; they are not judged.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from dataclasses import dataclass, field
from itertools import product
from math import comb, fsum
from operator import ne, sub
from typing import TYPE_CHECKING, NamedTuple

from pytest_llmengine.statistics import LookHistory, Reference, permutation_test, stratum_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ALPHA = 0.01
RARE = 0.001
PROMPTS = 8
TOKENS = 4
GAP = 0.004  # nats between the two likeliest tokens of the first prompt, and more for each prompt
NIGHTS = 365

BASELINE_ROUNDS = 120
ROUNDS_PER_NIGHT = 3

BEFORE = 100  # nights without a change
MOST_NIGHTS = 30  # until a change is found
FEW = 30  # years at most, for what shows at once

ROUNDS = (20, 10)  # of the baseline and of the candidate, for one look
DRAWS = 199

LogprobRound = list[float]
TextRound = list[int]


def logprob_distance(one: LogprobRound, other: LogprobRound) -> float:
    """The sum of the differences; all simulated servers show the same tokens."""
    return fsum(map(abs, map(sub, one, other)))


def text_distance(one: TextRound, other: TextRound) -> int:
    """The number of prompts with another text."""
    return sum(map(ne, one, other))


class Noise(NamedTuple):
    """How the log-probabilities of a server vary, in nats.

    ``answer`` is the size of heavy-tailed noise of each answer, ``round`` that of noise which a
    round shares, ``session`` that of noise which a session shares. ``load`` is the largest effect
    of the load, which drifts from night to night.
    """

    answer: float = 0.0
    round: float = 0.0
    session: float = 0.0
    load: float = 0.0


NOISES = {
    "none": Noise(),
    "heavy-tailed": Noise(answer=0.01),
    "correlated": Noise(answer=0.002, round=0.01, session=0.01),
    "drifting load": Noise(answer=0.002, load=0.05),
}


@dataclass
class SimulatedServer:
    """A server with this noise; ``shift`` is the size of a change, in nats."""

    noise: Noise
    chance: random.Random
    shift: float = 0.0
    load: float = 0.5
    values: list[float] = field(init=False)
    signs: list[int] = field(init=False)
    directions: list[float] = field(init=False)

    def __post_init__(self) -> None:
        size = PROMPTS * TOKENS
        self.values = [-0.8 - gap for n in range(PROMPTS) for gap in (0.0, GAP * (n + 1), 2.0, 3.0)]
        self.signs = self.chance.choices((-1, 1), k=size)
        self.directions = [self.chance.uniform(-1, 1) for _ in range(size)]

    def drift(self) -> None:
        """The load of the next night: a slow random walk in the range from 0 to 1."""
        self.load = min(1.0, max(0.0, self.load + self.chance.gauss(0, 0.05)))

    def session(self, rounds: int, load: float | None = None) -> list[LogprobRound]:
        """The rounds of one session, under the load of the night or the given one."""
        noise, gauss = self.noise, self.chance.gauss
        effect = noise.load * (self.load if load is None else load)
        values = [
            value + self.shift * sign + effect * direction
            for value, sign, direction in zip(self.values, self.signs, self.directions, strict=True)
        ]
        if noise.session:
            values = [value + gauss(0, noise.session) for value in values]
        return [self._round(values) for _ in range(rounds)]

    def _round(self, values: list[float]) -> LogprobRound:
        noise, gauss = self.noise, self.chance.gauss
        if noise.round:
            shared = gauss(0, noise.round)
            values = [value + shared for value in values]
        if not noise.answer:
            return values
        # Student's t with two degrees of freedom has no variance.
        scale = noise.answer
        heavy = (self.chance.expovariate(1.0) ** -0.5 for _ in values)
        return [value + scale * gauss() * h for value, h in zip(values, heavy, strict=True)]

    def recorded(self, sessions: int, rounds: int) -> list[list[LogprobRound]]:
        """Sessions of a baseline, each under another load."""
        return [self.session(rounds, load=self.chance.random()) for _ in range(sessions)]


def texts(rounds: Sequence[LogprobRound]) -> list[TextRound]:
    """The likeliest token of each prompt, for each round."""
    starts = range(0, PROMPTS * TOKENS, TOKENS)
    return [[max(range(s, s + TOKENS), key=one.__getitem__) for s in starts] for one in rounds]


def server_of(noise: Noise, seed: str) -> SimulatedServer:
    """A server with its own source of chance."""
    return SimulatedServer(noise, random.Random(seed))


# Nightly looks


class Watch(NamedTuple):
    """How a server is watched: rounds per look, and the tolerance (None: measured).

    It is valid for noises with which such looks are exchangeable, or within the tolerance.
    """

    name: str
    rounds: int
    tolerance: float | None
    valid_for: tuple[str, ...]

    def baseline(self, server: SimulatedServer) -> tuple[Reference[LogprobRound], LookHistory]:
        """The two halves of a baseline of sessions under different loads."""
        sessions = server.recorded(BASELINE_ROUNDS // self.rounds, self.rounds)
        half = len(sessions) // 2
        reference = Reference(sessions[:half], logprob_distance, self.tolerance)
        return reference, LookHistory.of([reference.score(one) for one in sessions[half:]])

    def alarm(self, noise: Noise, nights: int, seed: str, change: Change | None) -> int | None:
        """The first night with an alarm; None if there is none."""
        server = server_of(noise, seed)
        reference, history = self.baseline(server)
        for night in range(nights):
            server.drift()
            if change is not None and night == change.night:
                server.shift = change.shift
            rounds = server.session(ROUNDS_PER_NIGHT)
            for start in range(0, ROUNDS_PER_NIGHT, self.rounds):
                history = history.look(reference.score(rounds[start : start + self.rounds]))
            if history.is_changed(ALPHA):
                return night
        return None


class Change(NamedTuple):
    """A shift of all log-probabilities from this night on."""

    night: int
    shift: float


WATCHES = (
    Watch("nights, tolerance", ROUNDS_PER_NIGHT, None, tuple(NOISES)),
    Watch("nights", ROUNDS_PER_NIGHT, 0.0, ("none", "heavy-tailed", "correlated")),
    Watch("rounds", 1, 0.0, ("none", "heavy-tailed")),
)


# One look


class Rule(NamedTuple):
    """How the units of one look are made: rounds for the baseline and for the candidate."""

    name: str
    units: Callable[[SimulatedServer, float], tuple[list[LogprobRound], list[LogprobRound]]]
    valid_for: tuple[str, ...]


def _spread(server: SimulatedServer, shift: float) -> tuple[list[LogprobRound], list[LogprobRound]]:
    """Each round is a session of its own, under any load."""
    baseline = [rounds[0] for rounds in server.recorded(ROUNDS[0], 1)]
    server.shift = shift
    return baseline, [rounds[0] for rounds in server.recorded(ROUNDS[1], 1)]


def _at_once(
    server: SimulatedServer, shift: float
) -> tuple[list[LogprobRound], list[LogprobRound]]:
    """All rounds of a side are one session, under the load of the moment."""
    baseline = server.session(ROUNDS[0], load=server.chance.random())
    server.shift = shift
    return baseline, server.session(ROUNDS[1], load=server.chance.random())


RULES = (
    Rule("rounds apart", _spread, tuple(NOISES)),
    Rule("rounds at once", _at_once, ("none", "heavy-tailed")),
)
EVIDENCE: dict[str, Callable[[list[LogprobRound], list[LogprobRound]], float]] = {
    "logprobs": lambda ours, theirs: (
        permutation_test([stratum_of(ours, theirs, logprob_distance)], draws=DRAWS).p_value
    ),
    "text": lambda ours, theirs: (
        permutation_test(
            [stratum_of(texts(ours), texts(theirs), text_distance)], draws=DRAWS
        ).p_value
    ),
}


class Look(NamedTuple):
    """A kind of single look at servers with this noise."""

    noise: str
    rule: Rule
    evidence: str

    def found(self, shift: float, looks: int, seed: str) -> int:
        """In how many of so many looks the hypothesis is rejected."""
        test = EVIDENCE[self.evidence]
        servers = (server_of(NOISES[self.noise], f"{seed} look {n}") for n in range(looks))
        return sum(test(*self.rule.units(server, shift)) <= ALPHA for server in servers)


# The report


def most_alarms(runs: int) -> int:
    """The largest number of alarms that a valid test has with a chance of more than 0.001."""
    tail, alarms = 1.0, 0
    while True:
        tail -= comb(runs, alarms) * ALPHA**alarms * (1 - ALPHA) ** (runs - alarms)
        if tail < RARE:
            return alarms
        alarms += 1


def false_alarms_of_years(noises: Sequence[str], years: int, seed: str) -> Iterator[str]:
    """Print the table; yields the rows with too many alarms."""
    _print("a year of nights, no change", "with an alarm")
    for watch, name in product(WATCHES, noises):
        is_valid = name in watch.valid_for
        runs = years if is_valid else min(years, FEW)
        ends = [watch.alarm(NOISES[name], NIGHTS, f"{seed} year {n}", None) for n in range(runs)]
        alarms = sum(end is not None for end in ends)
        title = _title(is_valid, watch.name, name)
        _print(title, f"{alarms} of {runs}")
        if is_valid and alarms > most_alarms(years):
            yield title


def nights_after_changes(
    noises: Sequence[str], shifts: Sequence[float], years: int, seed: str
) -> None:
    """Print in which night after a change of each size the alarm comes."""
    runs = min(years, FEW)
    columns = " ".join(f"{shift:>10g}" for shift in shifts)
    _print(f"\nfound within {MOST_NIGHTS} nights, of {runs}; median", columns)
    for watch, name in product(WATCHES, noises):
        if name not in watch.valid_for:
            continue
        cells = []
        for shift in shifts:
            change = Change(BEFORE, shift)
            seeds = [f"{seed} change {n}" for n in range(runs)]
            ends = [watch.alarm(NOISES[name], BEFORE + MOST_NIGHTS, s, change) for s in seeds]
            nights = [end - BEFORE + 1 for end in ends if end is not None and end >= BEFORE]
            median = f"{statistics.median(nights):g}" if nights else "-"
            cells.append(f"{len(nights):5d} {median:>4}")
        _print(_title(True, watch.name, name), " ".join(cells))


def single_looks(
    noises: Sequence[str], shifts: Sequence[float], looks: int, seed: str
) -> Iterator[str]:
    """Print the table; yields the rows with too many false alarms."""
    columns = " ".join(f"{shift:>5g}" for shift in (0.0, *shifts))
    _print(f"\none look, found of {looks}", columns)
    for rule, evidence, noise in product(RULES, EVIDENCE, noises):
        look = Look(noise, rule, evidence)
        counts = [look.found(shift, looks, seed) for shift in (0.0, *shifts)]
        is_valid = noise in rule.valid_for
        title = _title(is_valid, evidence, rule.name, noise)
        _print(title, " ".join(f"{count:5d}" for count in counts))
        if is_valid and counts[0] > most_alarms(looks):
            yield title


def main() -> None:
    """Print the tables."""
    options = _options()
    noises, shifts, seed = options.noise or list(NOISES), options.shifts, options.seed
    excess = list(false_alarms_of_years(noises, options.years, seed))
    nights_after_changes(noises, shifts, options.years, seed)
    excess += single_looks(noises, shifts, options.looks, seed)
    if excess:
        sys.exit(f"more false alarms than a valid test has: {'; '.join(excess)}")


def _title(is_valid: bool, *names: str) -> str:
    return ", ".join(names) if is_valid else f"* {', '.join(names)}"


def _print(name: str, value: str) -> None:
    print(f"{name:44} {value}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--years", type=int, default=20, help="simulated years per noise")
    parser.add_argument("--looks", type=int, default=100, help="simulated single looks per cell")
    parser.add_argument("--noise", action="append", choices=NOISES, help="one of the noises")
    parser.add_argument(
        "--shifts", type=float, nargs="*", default=[0.005, 0.01, 0.02, 0.05], help="changes in nats"
    )
    parser.add_argument("--seed", default="1")
    return parser.parse_args()


if __name__ == "__main__":
    main()
