"""Measure false alarms of a check if the sessions of a server differ from each other.

    python benchmarks/drift_sessions.py --runs 400

A check exchanges rounds of a baseline with rounds of a candidate, which is valid only if sessions
do not differ. A simulated server has normal noise of size 1 in each of `VALUES` values of a round,
and noise that all rounds of a session share. A row shows in how many runs a check raises an alarm:
by the test of rounds alone, if the baseline's test of its sessions must pass as well, and if the
candidate must also be further away than the baseline's own sessions are, which is the rule of
`pytest_llmengine.drift`. The last rows have a change of all values instead.

The exit status is 1 if the rule raises more false alarms than a valid test has with a chance of
0.001.
"""

from __future__ import annotations

import argparse
import random
import sys
from math import fsum
from operator import sub
from typing import NamedTuple

from drift_simulation import ALPHA, most_alarms

from pytest_llmengine.drift.evidence import FURTHER
from pytest_llmengine.drift.self_test import LEVEL
from pytest_llmengine.statistics import Reference, group_test, permutation_test, stratum_of
from pytest_llmengine.statistics.looks import TOLERANCE

VALUES = 8
SESSIONS, ROUNDS = 4, 5  # of a baseline
CHECKED = 10  # rounds of a check
DRAWS = 499

Round = list[float]


class Case(NamedTuple):
    """The noise that the rounds of a session share, and a change of all values."""

    noise: float
    change: float = 0.0


CASES = (
    *(Case(noise) for noise in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0)),
    *(Case(0.0, change) for change in (0.5, 1.0, 2.0)),
)


def distance(one: Round, other: Round) -> float:
    """The sum of the differences."""
    return fsum(map(abs, map(sub, one, other)))


def session(chance: random.Random, rounds: int, noise: float, change: float = 0.0) -> list[Round]:
    """The rounds of one session."""
    shared = [chance.gauss(0, noise) + change for _ in range(VALUES)]
    return [[value + chance.gauss() for value in shared] for _ in range(rounds)]


def alarms(case: Case, chance: random.Random) -> tuple[bool, bool, bool]:
    """Whether each of the three rules raises an alarm."""
    baseline = [session(chance, ROUNDS, case.noise) for _ in range(SESSIONS)]
    candidate = session(chance, CHECKED, case.noise, case.change)
    rounds = [one for rounds in baseline for one in rounds]
    result = permutation_test([stratum_of(rounds, candidate, distance)], draws=DRAWS)
    is_rejected = result.p_value <= ALPHA
    p_value = group_test(baseline, distance, draws=DRAWS)
    assert p_value is not None
    are_same = p_value > LEVEL
    reference = Reference(baseline, distance, tolerance=None)
    limit = FURTHER / TOLERANCE * reference.tolerance
    far = result.statistic * (len(rounds) + CHECKED) / (len(rounds) * CHECKED)
    return is_rejected, is_rejected and are_same, is_rejected and are_same and far > limit


def main() -> None:
    """Print one row per case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=400, help="simulated checks per row")
    runs = parser.parse_args().runs
    print(f"of {runs} checks                     rounds  + sessions  + further")
    excess = []
    for case in CASES:
        found = [alarms(case, random.Random(f"{case} {run}")) for run in range(runs)]
        counts = [sum(rule) for rule in zip(*found, strict=True)]
        name = f"change {case.change:g}" if case.change else f"sessions differ by {case.noise:g}"
        print(f"{name:30} {counts[0]:6d} {counts[1]:11d} {counts[2]:10d}", flush=True)
        if not case.change and counts[2] > most_alarms(runs):
            excess.append(name)
    if excess:
        sys.exit(f"more false alarms than a valid test has: {'; '.join(excess)}")


if __name__ == "__main__":
    main()
