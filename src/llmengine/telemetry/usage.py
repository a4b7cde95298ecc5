"""Sums of money that do not hide what is unknown.

What all calls of a process have used, by engine.

What a batch came to, and the one line that says so in the log.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import asdict, dataclass, field, fields
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from llmengine.types.outputs import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmengine.engine.engine import Engine
    from llmengine.types.outputs import Result


Money = tuple[float | None, str | None]


def total_cost(parts: Iterable[Money]) -> Money:
    """The sum of amounts, each with its currency, and the currency of the sum.

    Both are None if an amount is, or if two amounts are in different currencies. A part without a
    currency is one for which nothing was sent.
    """
    total, currency = 0.0, None
    for amount, unit in parts:
        mixed = currency is not None and unit not in {None, currency}
        if amount is None or mixed:
            return None, None
        total, currency = total + amount, currency or unit
    return total, currency


_COUNTS = tuple(f.name for f in fields(Usage))


class Who(NamedTuple):
    """Whose calls are counted together: one engine's name, model and currency."""

    engine: str
    model: str
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class Totals:
    """What some calls have used.

    ``calls`` have ended, of which ``failed`` ended in an error and ``cancelled`` were given up by
    the caller. ``attempts`` were sent, of which nobody told the tokens of ``uncounted``, so that
    ``usage`` is a lower bound unless that is 0. ``seconds`` is the time in which at least one call
    was under way. ``known_cost`` is the cost of all calls but the ``unpriced`` ones.
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
        """The cost of all calls; None if that of any call is unknown."""
        return None if self.unpriced else self.known_cost

    def __sub__(self, earlier: Totals) -> Totals:
        """What has come since."""
        names = [f.name for f in fields(self) if f.name != "usage"]
        rest = {name: getattr(self, name) - getattr(earlier, name) for name in names}
        return Totals(**rest, usage=_since(self.usage, earlier.usage))


def _since(now: Usage, earlier: Usage) -> Usage:
    pairs = [(getattr(now, name), getattr(earlier, name)) for name in _COUNTS]
    return Usage(*(None if a is None else a - (b or 0) for a, b in pairs))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The totals of every engine at one moment; of one run, as the difference of two."""

    engines: dict[Who, Totals] = field(default_factory=dict)

    def __sub__(self, earlier: Snapshot) -> Snapshot:
        """What has come since, of the engines that were called since."""
        rest = {w: t - earlier.engines.get(w, Totals()) for w, t in self.engines.items()}
        return Snapshot({who: totals for who, totals in rest.items() if totals.calls})

    def as_dicts(self) -> list[dict[str, Any]]:
        """One plain mapping an engine, for JSON."""
        return [
            {**who._asdict(), **asdict(totals), "cost": totals.cost}
            for who, totals in self.engines.items()
        ]


class Account:
    """The running totals of one engine.

    It also shares the time of a server that is paid by the hour among the calls under way: while n
    are, each is charged one nth, so that the shares of all calls add up to the time in which any
    was under way.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = dict.fromkeys(
            ("calls", "failed", "cancelled", "attempts", "uncounted", "unpriced"), 0
        )
        self._tokens: list[int | None] = [None] * len(_COUNTS)
        self._known_cost = 0.0
        self._under_way = 0
        self._moved = 0.0  # when the next two were brought up to date
        self._seconds = 0.0
        self._share = 0.0  # of a call that had been under way all the time

    def begin(self) -> float:
        """A call starts; give what this returns to `end`."""
        with self._lock:
            self._move()
            self._under_way += 1
            return self._share

    def end(self, begun: float) -> float:
        """A call is over; its share of the time, in seconds."""
        with self._lock:
            self._move()
            self._under_way -= 1
            return self._share - begun

    def _move(self) -> None:
        now = monotonic()
        if self._under_way:
            self._seconds += now - self._moved
            self._share += (now - self._moved) / self._under_way
        self._moved = now

    def add(self, result: Result, *, cancelled: bool = False) -> None:
        """Count a call that is over."""
        with self._lock:
            numbers = self._numbers
            numbers["calls"] += 1
            numbers["cancelled" if cancelled else "failed"] += not result.ok
            numbers["attempts"] += result.attempts
            numbers["uncounted"] += result.uncounted
            if result.cost is None:
                numbers["unpriced"] += 1
            else:
                self._known_cost += result.cost
            if result.usage is not None:
                self._count(result.usage)

    def _count(self, usage: Usage) -> None:
        tokens = self._tokens
        for place, name in enumerate(_COUNTS):
            count = getattr(usage, name)
            if count is not None:
                tokens[place] = count + (tokens[place] or 0)

    def totals(self) -> Totals:
        """The totals so far."""
        with self._lock:
            self._move()
            return Totals(
                **self._numbers,
                usage=Usage(*self._tokens),
                seconds=self._seconds,
                known_cost=self._known_cost,
            )


class UsageMeter:
    """The accounts of all engines; safe to read from any thread at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[Who, Account] = {}

    def account(self, who: Who) -> Account:
        """The account of one engine, opened when it is first asked for."""
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
        """Start from nothing; calls under way are still counted in the accounts of before."""
        self._lock = threading.Lock()  # a fork may have left the old one held
        self._accounts = {}


meter = UsageMeter()

if hasattr(os, "register_at_fork"):
    # What the parent has used is the parent's to tell.
    os.register_at_fork(after_in_child=meter.reset)


log = logging.getLogger("llmengine")


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """What the results of a batch add up to.

    ``usage`` is a lower bound unless ``uncounted`` is 0; ``known_cost`` is the cost of all prompts
    but the ``unpriced`` ones.
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
        """The sum of some results, of one batch or of several in one currency."""
        listed = list(results)
        costs = [r.cost for r in listed if r.cost is not None]
        return cls(
            prompts=len(listed),
            answered=sum(r.ok for r in listed),
            attempts=sum(r.attempts for r in listed),
            uncounted=sum(r.uncounted for r in listed),
            usage=sum((r.usage for r in listed if r.usage is not None), Usage()),
            known_cost=sum(costs),
            unpriced=len(listed) - len(costs),
        )

    @property
    def cost(self) -> float | None:
        """The cost of the whole batch; None if that of any prompt is unknown."""
        return None if self.unpriced else self.known_cost


def log_batch(engine: Engine, step: str | None, results: list[Result], seconds: float) -> None:
    """One line a batch at INFO, with the same as data in the record's ``llmengine``."""
    if not log.isEnabledFor(logging.INFO):
        return
    batch, currency = BatchSummary.of(results), engine.tariff.currency
    data = {
        "event": "batch",
        "engine": engine.name,
        "model": engine.model,
        "step": step,
        "seconds": seconds,
        **asdict(batch),
        "cost": batch.cost,
        "currency": currency,
    }
    log.info(
        "%s%s: %d of %d prompts answered, %d attempts, %s, %s, %.2f s",
        engine.name,
        f" ({step})" if step else "",
        batch.answered,
        batch.prompts,
        batch.attempts,
        _tokens(batch),
        _cost(batch, currency),
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
