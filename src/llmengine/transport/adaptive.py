"""A limit on the requests that a server has at once, found by measuring what the server does.

Latency alone does not show how many requests a server of language models can take, because such a
server batches requests: each one becomes slower from the second request on, while the server as a
whole becomes faster. So this limit follows the goodput, which is the speed of one request (tokens
per second of latency) times the number of requests in flight. The algorithm and its numbers were
chosen by ``benchmarks/limit_simulation.py``; ``BENCHMARK.md`` has the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from math import inf, log, sqrt
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    State = Callable[["Goodput", float], None]


# The largest limit: a process sends no more requests at once by default.
CEILING = 1000
START = 16
# By how much a trial raises or lowers the limit; a failed trial upwards makes the next one smaller.
_STEP, _SMALLEST_STEP = 1.5, 1.2
# A limit that turned out to be too high is lowered by less than the trial, so that it stays above
# the number of requests that the server needs.
_SHRINK = 1.25
# After a refusal or a timeout, the limit is this share of the requests that were in flight.
_AFTER_REFUSAL = 0.8
# After a refusal, each window raises the limit by this share, whatever the goodput is.
_CLIMB = 0.06
# The gain of goodput for which a higher limit is worth while, as a share of the gain of the limit.
# While the limit is doubled at the start, less noise is left, so the gain must be larger.
_WORTH, _WORTH_AT_START = 0.08, 0.1
# How many windows are measured before a trial: at first, and after trials that changed nothing.
_FIRST_WAIT, _LONGEST_WAIT = 3, 12
_WINDOWS_PER_TRIAL = 3
_FEWEST_ANSWERS = 16
# Below this share of the limit in flight, the limit is not what holds the requests back.
_USED = 0.75
# A change of goodput at the same limit that is no noise.
_CHANGE = 0.2
_FIRST_VARIANCE, _LEAST_VARIANCE = 0.01, 1e-4


class RequestOutcome(Enum):
    """How a request ended, as far as it says something about the load of the server.

    ``RATE_LIMITED`` is a 429 and ``OVERLOADED`` a 503. ``OTHER`` is for every other failure, and
    for requests that the caller cancelled.
    """

    ANSWERED = auto()
    RATE_LIMITED = auto()
    OVERLOADED = auto()
    TIMED_OUT = auto()
    OTHER = auto()


@dataclass(slots=True)  # not frozen, because a frozen one takes four times as long to create
class Ending:
    """The end of one request: how and when it ended, when it was sent, and what it brought.

    ``in_flight`` is the number of requests that were under way, including this one. ``tokens`` is
    the number of generated tokens; it is 1 if the server does not report them.
    """

    outcome: RequestOutcome
    sent_at: float
    now: float
    in_flight: int
    tokens: float = 1.0


class Goodput(NamedTuple):
    """Logarithms of the tokens per second, measured in two ways.

    ``by_speed`` is the speed of one request times the number of requests in flight. It is exact
    while no request waits at the server, whatever the lengths of the answers. ``by_rate`` counts
    the tokens of the answers that arrived in some time. It is exact while all the server can do
    is done.
    """

    by_speed: float
    by_rate: float


class _Window:
    """What was measured under one limit, from the time when its effect shows."""

    def __init__(self, since: float, settling: int) -> None:
        self.answers = 0
        self._since = self._began = since
        self._settling = settling  # answers to wait for until the requests before are done
        self._in_flight = 0
        self._tokens = self._fresh_tokens = self._fresh_seconds = 0.0
        self._fresh = 0
        self._now = since

    def add(self, ending: Ending) -> None:
        """Count an answer."""
        if self._settling > 0:
            self._settling -= 1
            self._began = ending.now
            return
        self.answers += 1
        self._in_flight += ending.in_flight
        self._tokens += ending.tokens
        self._now = ending.now
        if ending.sent_at >= self._since:  # its whole latency was under this limit
            self._fresh += 1
            self._fresh_tokens += ending.tokens
            self._fresh_seconds += ending.now - ending.sent_at

    def is_complete(self, limit: int) -> bool:
        """Whether there are as many answers as the limit, of which half were sent under it."""
        wanted = max(_FEWEST_ANSWERS, limit)
        complete = self.answers >= wanted and 2 * self._fresh >= wanted
        return complete and self._fresh_seconds > 0 and self._now > self._began

    @property
    def in_flight(self) -> float:
        """The mean number of requests in flight."""
        return self._in_flight / self.answers

    @property
    def goodput(self) -> Goodput:
        """The two measures of the goodput."""
        speed = self.in_flight * self._fresh_tokens / self._fresh_seconds
        return Goodput(log(speed), log(self._tokens / (self._now - self._began)))


class AdaptiveLimit:
    """How many requests a server should have at once.

    The limit is doubled at first, for as long as that brings more goodput. After that, trials
    with a higher and a lower limit take turns. A higher limit is kept if the goodput grew with it;
    a lower one if the goodput did not fall, because then the requests only waited at the server.
    A refusal or a timeout lowers the limit at once, but only once for all requests that were sent
    before that. While fewer requests are in flight than the limit allows, nothing is learned.

    The time is given by the caller, so that this class also works on the time of a simulation.
    """

    watches_answers = True

    def __init__(self, start: float = START, *, ceiling: int = CEILING) -> None:
        self._ceiling = ceiling
        self._base = self._now_at = min(float(start), float(ceiling))  # the limit, and with a trial
        self._window = _Window(-inf, settling=1)
        self._state: State = self._after_doubling
        self._before: tuple[float, Goodput] | None = None  # the limit and goodput before doubling
        self._held: list[Goodput] = []  # goodput of the windows at the present limit
        self._tried: list[Goodput] = []  # goodput of the windows of the present trial
        self._variances = [_FIRST_VARIANCE, _FIRST_VARIANCE]  # of the goodput of a window
        self._wait = _FIRST_WAIT
        self._upwards = True
        self._step = _STEP
        self._lowered_at = -inf
        self._refused_at: float | None = None  # the number in flight at the last refusal

    @property
    def limit(self) -> int:
        """The present limit, which is at least 1."""
        return max(1, round(self._now_at))

    def ended(self, ending: Ending) -> None:
        """Take note of the end of a request."""
        if ending.outcome is RequestOutcome.ANSWERED:
            self._window.add(ending)
            if self._window.is_complete(self.limit):
                self._close_window(ending.now)
        elif ending.outcome is not RequestOutcome.OTHER and ending.sent_at > self._lowered_at:
            self._lower(ending)

    def _lower(self, ending: Ending) -> None:
        self._lowered_at = ending.now
        self._refused_at = float(ending.in_flight)
        self._base = max(1.0, min(self._now_at, self._refused_at) * _AFTER_REFUSAL)
        self._wait, self._upwards = _FIRST_WAIT, True
        self._hold(ending.now)
        if ending.outcome is not RequestOutcome.TIMED_OUT:
            self._state = self._after_refusal

    def _close_window(self, now: float) -> None:
        if self._window.in_flight < _USED * self.limit:
            self._hold(now)
        else:
            self._state(self._window.goodput, now)

    # ---- the states; each is called with the goodput of a window that is complete

    def _after_doubling(self, goodput: Goodput, now: float) -> None:
        if self._before is not None:
            limit, before = self._before
            if (fmean(goodput) - fmean(before)) / log(self._now_at / limit) < _WORTH_AT_START:
                self._base = limit
                self._hold(now)
                return
        self._base = self._now_at
        self._before = self._base, goodput
        if self._base >= self._ceiling:
            self._hold(now)
        else:
            self._set(2 * self._base, self._after_doubling, now)

    def _after_refusal(self, _: Goodput, now: float) -> None:
        """Go back to where the server refused, and beyond that if it refuses no more."""
        assert self._refused_at is not None
        self._base = min(self._base + max(1.0, _CLIMB * self._base), float(self._ceiling))
        if self._base > _STEP * self._refused_at or self._base >= self._ceiling:
            self._refused_at = None
            self._hold(now)
        else:
            self._set(self._base, self._after_refusal, now)

    def _after_holding(self, goodput: Goodput, now: float) -> None:
        self._note_held(goodput)
        if len(self._held) < self._wait:
            self._set(self._base, self._after_holding, now)
            return
        if self.limit == 1:
            self._upwards = True
        elif self._base >= self._ceiling:
            self._upwards = False
        self._tried.clear()
        self._set(self._next_trial(), self._after_trial, now)

    def _after_trial(self, goodput: Goodput, now: float) -> None:
        self._tried.append(goodput)
        gain, error = self._gain()
        # A lower limit must be harmless more clearly than a higher one is worth while, because a
        # limit that is too high costs latency, but one that is too low costs goodput.
        worth, worthless = gain - error / 2 > _WORTH, gain + error < _WORTH
        if not (worth or worthless) and len(self._tried) < _WINDOWS_PER_TRIAL:
            self._set(self._now_at, self._after_trial, now)
            return
        self._wait = min(2 * self._wait, _LONGEST_WAIT)
        if self._upwards:
            self._step = _STEP if worth else max(_SMALLEST_STEP, sqrt(self._step))
        if worth if self._upwards else worthless:
            lowered = max(self._now_at, self._base / _SHRINK)
            self._base = self._now_at if self._upwards else lowered
            self._wait = _FIRST_WAIT
        else:
            self._upwards = not self._upwards
        self._hold(now)

    def _gain(self) -> tuple[float, float]:
        """The gain of goodput by the trial, relative to that of the limit, and its error."""
        distance = log(self._now_at / self._base)
        windows = 1 / len(self._tried) + 1 / len(self._held)
        steadier = self._variances.index(min(self._variances))
        gain = fmean(g[steadier] for g in self._tried) - fmean(g[steadier] for g in self._held)
        variance = max(self._variances[steadier], _LEAST_VARIANCE)
        return gain / distance, sqrt(variance * windows) / abs(distance)

    def _hold(self, now: float) -> None:
        """Stay at the limit, and forget what was measured at another one."""
        self._held.clear()
        self._set(self._base, self._after_holding, now)

    def _set(self, limit: float, state: State, now: float) -> None:
        before = self.limit
        self._now_at = max(1.0, min(limit, self._ceiling))
        self._state = state
        self._window = _Window(now, settling=0 if self.limit == before else self.limit)

    def _note_held(self, goodput: Goodput) -> None:
        held, variances = self._held, self._variances
        if held:
            changes = [new - fmean(g[i] for g in held) for i, new in enumerate(goodput)]
            steadier = variances.index(min(variances))
            change = changes[steadier]
            if len(held) > 1 and abs(change) > max(_CHANGE, 3 * sqrt(variances[steadier])):
                # The server has become faster or slower.
                self._wait, self._upwards = _FIRST_WAIT, change > 0
                held.clear()
            else:
                for i, (new, old) in enumerate(zip(goodput, held[-1], strict=True)):
                    variances[i] += 0.2 * ((new - old) ** 2 / 2 - variances[i])
        held.append(goodput)

    def _next_trial(self) -> float:
        if not self._upwards:
            return max(1.0, min(self._base / _STEP, self._base - 1))
        limit = self._base * self._step
        if self._refused_at is not None:
            if self._base < self._refused_at:  # go slowly to where the server refused
                limit = min(limit, (self._base + self._refused_at) / 2)
            else:
                self._refused_at = None
        return max(limit, self._base + 1)
