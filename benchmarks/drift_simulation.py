"""Measure false alarms and power of the drift tests on simulated servers.

    python benchmarks/drift_simulation.py --years 1000 --looks 1000

A simulated server answers each prompt with the log-probabilities of its likeliest tokens, and with
the text of the likeliest. Its noise is one of `NOISES`. A change adds a shift to every
log-probability, with a sign of its own. The rules are those of `pytest_llmengine.statistics`; only
the distances of many nights are computed at once, and compared with the rule's own in samples.

- Nightly looks: in how many years of 365 nights any look raises an alarm, and in which night after
  a change. A look is a night, or each round of a night; scores may have a tolerance. "As tested" is
  what `llmengine drift watch` does: the self-test of the baseline decides about both.
- One look: how many false alarms there are, and how many changes are found.

The exit status is 1 if more than 1% of the years of a valid rule have an alarm, or if more single
looks have one than a valid test has with a chance of 0.001, which is also the limit for less than
1,000 years. Rows marked with * show what is not valid; they are not judged.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from itertools import product
from math import comb, isclose
from multiprocessing import Pool
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from simulated_server import EVIDENCE, LOGPROBS, NOISES, Evidence, SimulatedServer, loads_in_flight

from pytest_llmengine.drift.baseline import DriftUnit
from pytest_llmengine.drift.exchangeability import unit_of
from pytest_llmengine.drift.watch import (
    SESSIONS,
    SESSIONS_THAT_DIFFER,
    divided,
    tolerance_of,
)
from pytest_llmengine.reports.chart import Axis, Chart, Series, svg_of
from pytest_llmengine.statistics import (
    LookHistory,
    Reference,
    Stratum,
    furthest_third,
    group_test,
    permutation_test,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

ALPHA = 0.01
RARE = 0.001
ENOUGH = 1000  # years; with less, a valid rule may have more than 1% by bad luck
NIGHTS = 365

BEFORE = 100  # nights without a change
MOST_NIGHTS = 30  # until a change is found
FEW = 30  # years at most, for what shows at once
MANY = 100  # years at most with a change, and of nights alone

ROUNDS = (20, 10)  # of the baseline and of the candidate, for one look
DRAWS = 199
SELF_TEST_DRAWS = 39

COMPARED_YEARS = 50  # of so many years, one is compared with the rule's own arithmetic


# Nightly looks


class Watch(NamedTuple):
    """How a server is watched: sessions and rounds of the baseline; a night is a session.

    ``unit`` is what a look is, a session or each round; None: the self-test of the baseline decides
    for each server, and with it about the tolerance. A ``tolerance`` of None is measured.
    It is valid for noises with which such looks are exchangeable, or within the tolerance.
    If nights are ``alone``, each has its own p-value, and nothing is done about their number.
    """

    name: str
    sessions: int
    rounds: int
    unit: DriftUnit | None
    tolerance: float | None
    valid_for: tuple[str, ...]
    alone: bool = False

    def of(self, unit: DriftUnit) -> Watch:
        """The watch with this unit."""
        return self._replace(unit=unit, tolerance=tolerance_of(unit))


ALONE = "nights, each alone"
_BY_NIGHT = tuple(name for name in NOISES if name not in {"drifting load", "batches"})
_BY_ROUND = ("none", "heavy-tailed", "replicas")
WATCHES = (
    Watch("40 sessions, as tested", SESSIONS_THAT_DIFFER, 3, None, None, tuple(NOISES)),
    Watch("20 sessions, as tested", SESSIONS, 3, None, None, tuple(NOISES)),
    Watch("nights, tolerance", 40, 3, DriftUnit.SESSION, None, tuple(NOISES)),
    Watch("nights", 40, 3, DriftUnit.SESSION, 0.0, _BY_NIGHT),
    Watch("rounds", 40, 3, DriftUnit.ROUND, 0.0, _BY_ROUND),
    Watch("4 sessions, as tested", 4, 5, None, None, _BY_ROUND),
    Watch(ALONE, 40, 3, DriftUnit.SESSION, 0.0, (), alone=True),
)


class Year(NamedTuple):
    """A baseline and the nights after it, by session, round and token."""

    baseline: np.ndarray
    nights: np.ndarray


def year_of(watch: Watch, server: SimulatedServer, shift: float | None) -> Year:
    """The log-probabilities of a baseline and of the nights after it.

    Without a shift they are a year; with one they end some nights after it.
    """
    baseline = server.sessions(server.any_loads(watch.sessions), watch.rounds)
    shifts = np.zeros(NIGHTS)
    if shift is not None:
        shifts = np.repeat([0.0, shift], [BEFORE, MOST_NIGHTS])
    return Year(baseline, server.sessions(server.nightly_loads(len(shifts)), watch.rounds, shifts))


def unit_by_test(baseline: np.ndarray) -> DriftUnit:
    """The unit that the self-tests of a baseline, by session and by load, decide on."""
    places = np.arange(baseline.shape[0] * baseline.shape[1]).reshape(baseline.shape[:2])
    loads = loads_in_flight(baseline.shape[1])
    by_load = [places[:, loads == load].ravel().tolist() for load in np.unique(loads)]
    for groups in (places.tolist(), by_load):
        least = 1.0
        for evidence in EVIDENCE:
            rounds = evidence.values(baseline).reshape(places.size, -1)
            known = evidence.distance(rounds[:, None], rounds[None, :]).tolist()
            p_value = group_test(
                groups, lambda one, other, known=known: known[one][other], draws=SELF_TEST_DRAWS
            )
            least = min(least, len(EVIDENCE) * p_value)  # the smallest one of Holm's correction
        if unit_of(least) is DriftUnit.SESSION:
            return DriftUnit.SESSION
    return DriftUnit.ROUND


def first_alarm(watch: Watch, year: Year, *, compare: bool) -> Iterator[tuple[str, int]]:
    """The first night with an alarm for each kind of evidence that has one."""
    if watch.unit is None:
        watch = watch.of(unit_by_test(year.baseline))
        if watch.unit is DriftUnit.SESSION and SESSIONS <= watch.sessions < SESSIONS_THAT_DIFFER:
            return  # the watch refuses it
    for evidence in EVIDENCE:
        baseline, looks = (_units(evidence.values(sessions), watch) for sessions in year)
        scores = _Scores(baseline, evidence, watch.tolerance)
        if compare:
            scores.compare(looks)
        history = LookHistory.of(scores.of(scores.others))
        night = first_look(watch, history, scores.of(looks))
        if night is not None:
            yield evidence.name, night


class _Scores:
    """What `Reference.score` says about each look, for all of them at once."""

    def __init__(self, baseline: np.ndarray, evidence: Evidence, tolerance: float | None) -> None:
        self._evidence = evidence
        self._units, self.others = map(np.array, divided(baseline))
        self._rounds = self._units.reshape(-1, baseline.shape[-1])
        # The rule sees the places of rounds, and looks up their distances.
        distances = evidence.distance(self._rounds[:, None], self._rounds[None, :])
        known = distances.tolist()
        places = np.arange(len(self._rounds)).reshape(len(self._units), -1).tolist()
        rule = Reference(places, lambda one, other: known[one][other], tolerance)
        if tolerance is None:
            loads = np.tile(loads_in_flight(self._units.shape[1]), len(self._units))
            by_load = [np.flatnonzero(loads == load).tolist() for load in np.unique(loads)]
            rule.tolerance = max(rule.tolerance, furthest_third(by_load, rule.distance))
        self._tolerance = rule.tolerance
        self._within = distances.mean() + rule.tolerance

    def of(self, looks: np.ndarray) -> list[float]:
        """The scores."""
        across = self._evidence.mean_distance(self._rounds, looks).mean(-1)
        own = self._evidence.distance(looks[:, :, None], looks[:, None, :]).mean((-2, -1))
        # Equal scores must stay equal: what is only rounding is none.
        return np.maximum(0.0, (2 * across - own - self._within).round(12)).tolist()

    def compare(self, looks: np.ndarray) -> None:
        """End the program if the rule itself gives some looks another score."""
        rule = Reference(list(map(list, self._units)), self._evidence.distance, self._tolerance)
        for look in looks[[0, 1, 7, -1]]:
            if not isclose(rule.score(list(look)), self.of(look[None])[0], abs_tol=1e-9):
                sys.exit("the simulation computes another score than the rule")


def _units(sessions: np.ndarray, watch: Watch) -> np.ndarray:
    """The units of sessions; a round is a session of one."""
    if watch.unit is DriftUnit.SESSION:
        return sessions
    return sessions.reshape(-1, 1, sessions.shape[-1])


def first_look(watch: Watch, history: LookHistory, scores: Sequence[float]) -> int | None:
    """The night of the first look with an alarm; None if there is none.

    The kinds of evidence share the false-alarm rate.
    """
    if not any(scores):  # the lowest scores are last, and lose every bet
        return None
    looks_per_night = watch.rounds if watch.unit is DriftUnit.ROUND else 1
    for n, score in enumerate(scores):
        if watch.alone and history.rank(score) <= ALPHA * (len(history.scores) + 1):
            return n // looks_per_night
        history = history.look(score)
        if not watch.alone and history.is_changed(ALPHA / len(EVIDENCE)):
            return n // looks_per_night
    return None


# One look


class Rule(NamedTuple):
    """How the rounds of one look are made.

    They are ``apart`` if each is a session of its own, under any load. Otherwise all rounds of a
    side are one session, under the load of the moment.
    """

    name: str
    apart: bool
    valid_for: tuple[str, ...]


RULES = (
    Rule("rounds apart", True, tuple(NOISES)),
    Rule("rounds at once", False, ("none", "heavy-tailed", "replicas")),
)


def p_value(rule: Rule, evidence: Evidence, server: SimulatedServer, shift: float) -> float:
    """The p-value of one look at a server with this change."""
    sides = []
    for rounds, size in zip(ROUNDS, (0.0, shift), strict=True):
        sessions, each = (rounds, 1) if rule.apart else (1, rounds)
        values = server.sessions(server.any_loads(sessions), each, size)
        sides.append(evidence.values(values.reshape(rounds, -1)))
    units = np.concatenate(sides)
    distances = evidence.distance(units[:, None], units[None, :]).astype(float)
    stratum = Stratum(distances.tolist(), ROUNDS[0])
    return permutation_test([stratum], draws=DRAWS).p_value


# The report


class Row(NamedTuple):
    """What was simulated, how often, and in how many runs there was an alarm.

    ``shift`` is the size of the change. ``nights`` are the nights of the first alarms.
    """

    rule: str
    evidence: str
    noise: str
    is_valid: bool
    shift: float
    runs: int
    alarms: int
    nights: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        """What a table calls it."""
        mark = "" if self.is_valid else "* "
        return f"{mark}{self.rule}, {self.evidence}, {self.noise}"


def servers(noise: str, seed: int, count: int) -> Iterator[SimulatedServer]:
    """So many servers with this noise; those of all rules are the same."""
    for n in range(count):
        yield SimulatedServer(NOISES[noise], seed, n)


def years_without_change(options: argparse.Namespace, watch: Watch, noise: str) -> Iterator[Row]:
    """The false alarms of a rule."""
    is_valid = noise in watch.valid_for
    runs = min(options.years, options.years if is_valid else MANY if watch.alone else FEW)
    years = (year_of(watch, one, None) for one in servers(noise, options.seed, runs))
    for name, nights in first_alarms(watch, years).items():
        yield Row(watch.name, name, noise, is_valid, 0.0, runs, len(nights), nights)


def years_with_change(options: argparse.Namespace, watch: Watch, noise: str) -> Iterator[Row]:
    """In which night after a change of each size the alarm comes, if the rule is valid."""
    if noise not in watch.valid_for:
        return
    runs = min(options.years, MANY)
    rows: list[Row] = []
    for shift in options.shifts:
        years = (year_of(watch, one, shift) for one in servers(noise, options.seed, runs))
        for name, nights in first_alarms(watch, years).items():
            found = tuple(night - BEFORE + 1 for night in nights if night >= BEFORE)
            rows.append(Row(watch.name, name, noise, True, shift, runs, len(found), found))
    yield from sorted(rows, key=lambda row: row.evidence)


def first_alarms(watch: Watch, years: Iterable[Year]) -> dict[str, tuple[int, ...]]:
    """The nights of the first alarms by kind of evidence, of the years that have one."""
    nights: dict[str, list[int]] = {evidence.name: [] for evidence in EVIDENCE}
    for n, year in enumerate(years):
        for name, night in first_alarm(watch, year, compare=n % COMPARED_YEARS == 0):
            nights[name].append(night)
    return {name: tuple(found) for name, found in nights.items()}


def single_looks(options: argparse.Namespace, rule: Rule, noise: str) -> Iterator[Row]:
    """How often one look rejects, without a change and with changes."""
    is_valid = noise in rule.valid_for
    for evidence, shift in product(EVIDENCE, (0.0, *options.shifts)):
        asked = servers(noise, options.seed, options.looks)
        alarms = sum(p_value(rule, evidence, one, shift) <= ALPHA for one in asked)
        yield Row(rule.name, evidence.name, noise, is_valid, shift, options.looks, alarms)


def most_alarms(runs: int) -> int:
    """The largest number of alarms that a valid test has with a chance of more than 0.001."""
    tail, alarms = 1.0, 0
    while True:
        tail -= comb(runs, alarms) * ALPHA**alarms * (1 - ALPHA) ** (runs - alarms)
        if tail < RARE:
            return alarms
        alarms += 1


def rows_of(
    table: Callable[..., Iterator[Row]], options: argparse.Namespace, rules: Iterable[Watch | Rule]
) -> Iterator[Row]:
    """The rows of a table, computed in so many processes."""
    with Pool(options.jobs) as pool:
        parts = product([table], [options], rules, options.noise)
        for rows in pool.imap(_listed, parts):
            yield from rows


def _listed(
    part: tuple[Callable[..., Iterator[Row]], argparse.Namespace, Watch | Rule, str],
) -> list[Row]:
    table, options, rule, noise = part
    return list(table(options, rule, noise))


def print_table(head: str, rows: Iterable[Row]) -> list[Row]:
    """Print one line for each rule, kind of evidence and noise, with a cell for each change."""
    done = []
    print(f"\n{head}", end="", flush=True)
    for row in rows:
        if not done or done[-1].title != row.title:
            print(f"\n{row.title:48}", end="")
        median = f"({statistics.median(row.nights):g})" if row.shift and row.nights else ""
        print(
            f" {row.alarms:>5} {median:6}" if row.shift else f" {row.alarms:>5}", end="", flush=True
        )
        done.append(row)
    print()
    return done


def charts_of(quiet: Sequence[Row], changed: Sequence[Row]) -> list[Chart]:
    """False alarms night by night, and the changes that looks by night find."""
    percent = tuple((n / 100, f"{n}%") for n in (0, 25, 50, 75, 100))
    share = Axis("share of the years", 0.0, 1.0, percent)
    months = tuple((float(n), str(n)) for n in range(0, NIGHTS + 1, 73))
    worst = max((row for row in quiet if row.is_valid), key=lambda row: row.alarms / row.runs)
    alone = [row for row in quiet if row.rule == ALONE and row[1:3] == worst[1:3]]
    false_alarms = Chart(
        title="Years without a change that have had an alarm",
        text="",
        x=Axis("night", 0.0, NIGHTS, months),
        y=share,
        series=tuple(_by_night(row) for row in (*alone, worst)),
        limits=((ALPHA, "1%"),),
    )
    shifts = sorted({row.shift for row in changed})
    ticks = tuple((shift, f"{shift:g}") for shift in shifts)
    size = Axis("change of each log-probability, in nats", shifts[0], shifts[-1], ticks, log=True)
    return [false_alarms] + [
        Chart(
            title=f"Changes found within {MOST_NIGHTS} nights: {watch.name}, {LOGPROBS.name}",
            text="",
            x=size,
            y=share,
            series=tuple(
                Series(noise, tuple((row.shift, row.alarms / row.runs) for row in rows))
                for noise in NOISES
                if (rows := [r for r in changed if r[:3] == (watch.name, LOGPROBS.name, noise)])
            ),
        )
        for watch in WATCHES
        if watch.sessions == SESSIONS_THAT_DIFFER
        and watch.unit is not DriftUnit.ROUND
        and watch.valid_for
    ]


def _by_night(row: Row) -> Series:
    points, alarms = [(0.0, 0.0)], 0
    for night, count in sorted(Counter(row.nights).items()):
        points += [(night, alarms / row.runs), (night, (alarms + count) / row.runs)]
        alarms += count
    return Series(row.title.removeprefix("* "), (*points, (NIGHTS, row.alarms / row.runs)))


def main() -> None:
    """Print the tables, and draw them."""
    options = _options()
    quiet = print_table(
        f"false alarms in {options.years} years without a change ({FEW} of what is not valid)",
        rows_of(years_without_change, options, WATCHES),
    )
    sizes = " ".join(f"{shift:g}" for shift in options.shifts)
    changed = print_table(
        f"found within {MOST_NIGHTS} nights in {min(options.years, MANY)} years, and the "
        f"median night, by the change: {sizes}",
        rows_of(years_with_change, options, WATCHES),
    )
    once = print_table(
        f"found in {options.looks} single looks, by the change: 0 {sizes}",
        rows_of(single_looks, options, RULES),
    )
    if options.svg:
        options.svg.write_text(svg_of(*charts_of(quiet, changed)), encoding="utf-8")
    of_years = most_alarms(options.years) if options.years < ENOUGH else ALPHA * options.years
    excess = [row.title for row in quiet if row.is_valid and row.alarms > of_years]
    of_looks = most_alarms(options.looks)
    excess += [r.title for r in once if r.is_valid and not r.shift and r.alarms > of_looks]
    if excess:
        sys.exit(f"more false alarms than a valid test has: {'; '.join(excess)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--years", type=int, default=20, help="simulated years per row")
    parser.add_argument("--looks", type=int, default=100, help="simulated single looks per cell")
    parser.add_argument("--noise", nargs="+", choices=NOISES, default=list(NOISES))
    parser.add_argument(
        "--shifts",
        type=float,
        nargs="+",
        default=[0.005, 0.01, 0.02, 0.05, 0.1],
        help="the changes, in nats",
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--svg", type=Path, help="draw the tables of nightly looks in this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
