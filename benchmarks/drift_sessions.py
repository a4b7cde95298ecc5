"""Measure false alarms of a check if the sessions of a server differ from each other.

    python benchmarks/drift_sessions.py --runs 400

A check exchanges rounds of a baseline with rounds of a candidate, which is valid only if sessions
do not differ. A simulated server has normal noise of size 1 in each of `VALUES` values of a round,
and noise that all rounds of a session share. In a round of several requests in flight, all values
are higher by `IN_BATCH` if they are computed in one batch; the share of such rounds may be another
one in the baseline and in the check. A row shows in how many runs a check raises an alarm: by the
test of rounds alone, if the baseline's test of its sessions must pass as well, if the candidate
must also be further away than the baseline's own sessions are, and if it must be further away than
the baseline's rounds under load are from those of one request, which is the rule of
`pytest_llmengine.drift`. The last rows have a change of all values instead.

The exit status is 1 if the rule raises more false alarms than a valid test has with a chance of
0.001.
"""

from __future__ import annotations

import argparse
import random
import sys
from itertools import accumulate
from math import fsum
from operator import and_, sub
from typing import NamedTuple

from drift_simulation import ALPHA, most_alarms

from pytest_llmengine.drift.evidence import FURTHER
from pytest_llmengine.drift.exchangeability import LEVEL
from pytest_llmengine.statistics import (
    furthest_group,
    furthest_third,
    group_test,
    permutation_test,
    stratum_of,
)

VALUES = 8
SESSIONS, ROUNDS = 4, 5  # of a baseline
CHECKED = 10  # rounds of a check
IN_FLIGHT = (1, 4, 16)  # requests in the rounds of a session, in turn
IN_BATCH = 4.0
DRAWS = 499

Round = list[float]


class Case(NamedTuple):
    """The noise that the rounds of a session share, and a change of all values.

    ``batches`` are the shares of the rounds of several requests that are computed in one batch, in
    the baseline and in the check.
    """

    noise: float = 0.0
    change: float = 0.0
    batches: tuple[float, float] = (0.0, 0.0)

    @property
    def name(self) -> str:
        """What the table calls it."""
        if not any(self.batches):
            changed = f"change {self.change:g}"
            return changed if self.change else f"sessions differ by {self.noise:g}"
        shares = " and ".join(f"{share:.0%}" for share in self.batches)
        return f"batches {shares}" + (f", change {self.change:g}" if self.change else "")


CASES = (
    *(Case(noise) for noise in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0)),
    *(Case(batches=(0.5, share)) for share in (0.0, 0.5, 1.0)),
    *(Case(batches=(1.0, share)) for share in (0.0, 0.5, 1.0)),
    *(Case(change=change) for change in (0.5, 1.0, 2.0)),
    *(Case(change=change, batches=(1.0, 0.5)) for change in (2.0, 4.0, 8.0)),
)


def distance(one: Round, other: Round) -> float:
    """The sum of the differences."""
    return fsum(map(abs, map(sub, one, other)))


def session(
    chance: random.Random, rounds: int, case: Case, share: float, change: float = 0.0
) -> list[Round]:
    """The rounds of one session, of which this share is computed in one batch if it can be.

    A change has a sign of its own for each value.
    """
    signs = random.Random(0).choices((-1, 1), k=VALUES)
    shared = [chance.gauss(0, case.noise) + change * sign for sign in signs]
    measured = []
    for n in range(rounds):
        in_batch = IN_FLIGHT[n % len(IN_FLIGHT)] > 1 and chance.random() < share
        added = IN_BATCH if in_batch else 0.0
        measured.append([value + added + chance.gauss() for value in shared])
    return measured


def alarms(case: Case, chance: random.Random) -> tuple[bool, bool, bool, bool]:
    """Whether each of the four rules raises an alarm."""
    before, after = case.batches
    baseline = [session(chance, ROUNDS, case, before) for _ in range(SESSIONS)]
    candidate = session(chance, CHECKED, case, after, case.change)
    rounds = [one for rounds in baseline for one in rounds]
    result = permutation_test([stratum_of(rounds, candidate, distance)], draws=DRAWS)
    is_rejected = result.p_value <= ALPHA
    p_value = group_test(baseline, distance, draws=DRAWS)
    assert p_value is not None
    are_same = p_value > LEVEL
    limit = FURTHER * furthest_group(baseline, distance)
    far = result.statistic * (len(rounds) + CHECKED) / (len(rounds) * CHECKED)
    loads = [
        [one for of_session in baseline for one in of_session[n :: len(IN_FLIGHT)]]
        for n in range(len(IN_FLIGHT))
    ]
    rules = (is_rejected, are_same, far > limit, far > furthest_third(loads, distance))
    one, two, three, four = accumulate(rules, and_)
    return one, two, three, four


def main() -> None:
    """Print one row per case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=400, help="simulated checks per row")
    runs = parser.parse_args().runs
    print(f"of {runs:4} checks                       rounds + sessions  + further    + loads")
    excess = []
    for case in CASES:
        found = [alarms(case, random.Random(f"{case} {run}")) for run in range(runs)]
        counts = [sum(rule) for rule in zip(*found, strict=True)]
        print(f"{case.name:32}", *(f"{count:10d}" for count in counts), flush=True)
        if not case.change and counts[-1] > most_alarms(runs):
            excess.append(case.name)
    if excess:
        sys.exit(f"more false alarms than a valid test has: {'; '.join(excess)}")


if __name__ == "__main__":
    main()
