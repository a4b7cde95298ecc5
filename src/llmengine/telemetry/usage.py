"""Sums of tokens and cost: of some requests, of a batch, and of every engine of the process.

A cost is None if the cost of any part is unknown. A token count is None if no server reported it.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import asdict, dataclass, field, fields, replace
from operator import attrgetter, sub
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Self

from llmengine.types.outputs import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmengine.types.results import Result

log = logging.getLogger("llmengine")


Money = tuple[float | None, str | None]


def total_cost(parts: Iterable[Money]) -> Money:
    """The sum of amounts, each with its currency, and the currency of the sum.

    Both are None if any amount is None, or if two amounts are in different currencies. A part
    without a currency is one for which no request was sent.
    """
    total, currency = 0.0, None
    for amount, unit in parts:
        mixed = currency is not None and unit not in {None, currency}
        if amount is None or mixed:
            return None, None
        total, currency = total + amount, currency or unit
    return total, currency


def total_usage(parts: Iterable[Usage | None]) -> Usage | None:
    """The sum of the known usage; None if none is known."""
    total = None
    for usage in parts:
        total = usage if total is None else total if usage is None else total + usage
    return total


@dataclass(frozen=True, slots=True)
class Spending:
    """The tokens and the money that some requests used.

    ``usage`` is None if no server reported any. ``cost`` is in ``currency``; it is None if the cost
    of any request is unknown or in another currency.
    """

    usage: Usage | None = None
    cost: float | None = 0.0
    currency: str | None = None

    def __add__(self, other: Spending) -> Spending:
        """The spending of both."""
        usage = total_usage([self.usage, other.usage])
        return Spending(
            usage, *total_cost([(self.cost, self.currency), (other.cost, other.currency)])
        )


class Who(NamedTuple):
    """The key of an account: calls with the same engine name, model and currency are summed."""

    engine: str
    model: str
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals over some calls.

    ``calls`` is the number of calls that have ended; ``failed`` of them ended in an error, and
    ``cancelled`` of them were cancelled by the caller. ``attempts`` is the number of requests that
    were sent. For ``uncounted`` of these the server reported no tokens, so ``usage`` is a lower
    bound unless ``uncounted`` is 0. ``seconds`` is the time in which at least one call was under
    way. ``known_cost`` is the cost of all calls except the ``unpriced`` ones.
    """

    calls: int = 0
    failed: int = 0
    cancelled: int = 0
    attempts: int = 0
    uncounted: int = 0
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    known_cost: float = 0.0
    unpriced: int = 0

    @property
    def cost(self) -> float | None:
        """The cost of all calls; None if the cost of any call is unknown."""
        return None if self.unpriced else self.known_cost

    def __sub__(self, earlier: Totals) -> Totals:
        """The difference between these totals and earlier ones."""
        return Totals(*map(sub, _values(self), _values(earlier)))


_values = attrgetter(*(f.name for f in fields(Totals)))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The totals of every engine at one moment; the difference of two is the usage between them."""

    engines: dict[Who, Totals] = field(default_factory=dict)

    def __sub__(self, earlier: Snapshot) -> Snapshot:
        """The totals since an earlier snapshot, for the engines that were called since then."""
        rest = {w: t - earlier.engines.get(w, Totals()) for w, t in self.engines.items()}
        return Snapshot({who: totals for who, totals in rest.items() if totals.calls})

    def as_dicts(self) -> list[dict[str, object]]:
        """One plain mapping per engine, for JSON."""
        return [
            {**who._asdict(), **asdict(totals), "cost": totals.cost}
            for who, totals in self.engines.items()
        ]


class Account:
    """The running totals of one engine.

    It also divides the time of a server that is paid by the hour among its calls: while n calls are
    under way, each gets 1/n of the time. So the shares of all calls add up to the time in which at
    least one call was under way.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = self._failed = self._cancelled = 0
        self._attempts = self._uncounted = self._unpriced = 0
        self._usage = Usage()
        self._known_cost = 0.0
        self._under_way = 0
        self._updated = 0.0  # when the next two values were last updated
        self._seconds = 0.0
        self._share = 0.0  # of a call that is under way since the start

    def begin(self) -> float:
        """Note that a call starts; returns a value that `end` needs."""
        with self._lock:
            self._update_time()
            self._under_way += 1
            return self._share

    def end(self, begun: float) -> float:
        """Note that a call is over; returns its share of the time, in seconds."""
        with self._lock:
            self._update_time()
            self._under_way -= 1
            return self._share - begun

    def _update_time(self) -> None:
        now = monotonic()
        if self._under_way:
            self._seconds += now - self._updated
            self._share += (now - self._updated) / self._under_way
        self._updated = now

    def add(self, result: Result, *, cancelled: bool = False) -> None:
        """Count a call that has ended."""
        with self._lock:
            self._calls += 1
            if cancelled:
                self._cancelled += 1
            elif not result.ok:
                self._failed += 1
            self._attempts += result.attempts
            self._uncounted += result.uncounted
            if result.usage is not None:
                self._usage += result.usage
            if result.cost is None:
                self._unpriced += 1
            else:
                self._known_cost += result.cost

    def totals(self) -> Totals:
        """The totals so far."""
        with self._lock:
            self._update_time()
            return Totals(
                calls=self._calls,
                failed=self._failed,
                cancelled=self._cancelled,
                attempts=self._attempts,
                uncounted=self._uncounted,
                usage=self._usage,
                seconds=self._seconds,
                known_cost=self._known_cost,
                unpriced=self._unpriced,
            )


class UsageMeter:
    """The accounts of all engines; safe to read from any thread at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[Who, Account] = {}

    def account(self, who: Who) -> Account:
        """The account of one engine, made when it is first needed."""
        found = self._accounts.get(who)
        if found is None:
            with self._lock:
                found = self._accounts.setdefault(who, Account())
        return found

    def snapshot(self) -> Snapshot:
        """The totals of every engine, as they are now."""
        with self._lock:
            accounts = list(self._accounts.items())
        return Snapshot({who: account.totals() for who, account in accounts})

    def reset(self) -> None:
        """Start from zero; calls that are under way are still counted in the old accounts."""
        self._lock = threading.Lock()  # a thread of the parent may have held the old one at a fork
        self._accounts = {}


meter = UsageMeter()

if hasattr(os, "register_at_fork"):
    # The parent process reports its own usage, so the child starts from zero.
    os.register_at_fork(after_in_child=meter.reset)


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """The sums over the results of a batch.

    ``usage`` is a lower bound unless ``uncounted`` is 0. ``known_cost`` is the cost of all prompts
    except the ``unpriced`` ones.
    """

    prompts: int
    answered: int
    attempts: int
    uncounted: int
    usage: Usage
    known_cost: float
    unpriced: int

    @classmethod
    def of(cls, results: Iterable[Result]) -> Self:
        """The summary of some results, from one batch or from several in one currency."""
        account = Account()
        for result in results:
            account.add(result)
        total = account.totals()
        return cls(
            prompts=total.calls,
            answered=total.calls - total.failed,
            attempts=total.attempts,
            uncounted=total.uncounted,
            usage=total.usage,
            known_cost=total.known_cost,
            unpriced=total.unpriced,
        )

    @property
    def cost(self) -> float | None:
        """The cost of the whole batch; None if the cost of any prompt is unknown."""
        return None if self.unpriced else self.known_cost


def log_batch(who: Who, step: str | None, results: list[Result], seconds: float) -> None:
    """Log one line per batch at INFO, with the same data in the log record's ``llmengine``.

    A cost in another currency than that of the account counts as unknown.
    """
    if not log.isEnabledFor(logging.INFO):
        return
    batch = BatchSummary.of(
        result if result.currency in {None, who.currency} else replace(result, cost=None)
        for result in results
    )
    data = {
        "event": "batch",
        "engine": who.engine,
        "model": who.model,
        "step": step,
        "seconds": seconds,
        **asdict(batch),
        "cost": batch.cost,
        "currency": who.currency,
    }
    log.info(
        "%s%s: %d of %d prompts answered, %d attempts, %s, %s, %.2f s",
        who.engine,
        f" ({step})" if step else "",
        batch.answered,
        batch.prompts,
        batch.attempts,
        _tokens(batch),
        _cost(batch, who.currency),
        seconds,
        extra={"llmengine": data},
    )


def _tokens(batch: BatchSummary) -> str:
    if batch.usage.total_tokens is None:
        return "unknown tokens"
    return f"{'at least ' if batch.uncounted else ''}{batch.usage.total_tokens} tokens"


def _cost(batch: BatchSummary, currency: str) -> str:
    if not batch.unpriced:
        return f"cost {batch.known_cost:.6g} {currency}"
    if batch.unpriced == batch.prompts:
        return "unknown cost"
    return f"cost at least {batch.known_cost:.6g} {currency}"
