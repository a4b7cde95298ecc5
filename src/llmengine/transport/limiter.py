"""The permits of the requests of a process: who may send the next request, and when.

Every attempt of a call holds a permit. An engine has a share of a limiter, which holds the pauses,
the rates and the numbers of requests that are common to some engines. The dispatcher gives the
permits to the shares, and holds the number of requests that the process may have under way.
Everything here is used on the background loop only.
"""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Protocol, Self
from weakref import WeakKeyDictionary, WeakSet

from llmengine.transport.adaptive import AdaptiveLimit, Ending, RequestOutcome
from llmengine.transport.breaker import CircuitBreaker
from llmengine.transport.limiter_config import AUTO, LimiterState
from llmengine.transport.rates import Pause, RequestRate, TokenRate
from llmengine.types.errors import APITimeoutError, ConfigError, RateLimitError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping
    from types import TracebackType

    from llmengine.transport.limiter_config import LimiterConfig
    from llmengine.transport.rates import RequestSize
    from llmengine.types.outputs import Usage


class Control(Protocol):
    """What changes a number of requests by how they end."""

    @property
    def limit(self) -> float:
        """The present number."""
        ...

    @property
    def watches_answers(self) -> bool:
        """Whether an answer would change anything; failures always may."""
        ...

    def ended(self, ending: Ending) -> None:
        """Take note of the end of a request."""
        ...


class Slots:
    """At most ``limit`` requests may be under way at once; ``control`` may change the number."""

    def __init__(self, limit: float = inf, control: Control | None = None) -> None:
        self.taken = 0
        self.limit = limit if control is None else control.limit
        self._control = control

    def enter(self, permit: Permit) -> None:  # noqa: ARG002 - for subclasses
        """Take a slot, whether there is one or not."""
        self.taken += 1

    def leave(self, permit: Permit, now: float) -> None:
        """Give the slot back."""
        control, outcome = self._control, permit.outcome
        if control is not None and (
            control.watches_answers or outcome is not RequestOutcome.ANSWERED
        ):
            control.ended(Ending(outcome, permit.sent_at, now, self.taken, permit.tokens))
            self.limit = control.limit
        self.taken -= 1


@dataclass(slots=True)  # not frozen, because a frozen one takes four times as long to create
class QueuePlace:
    """The state of a server's queue when a request was sent.

    ``number`` is the number of requests that were sent, and ``answered`` the number of requests
    that were answered by then. ``under_way`` is the number of requests that the server had,
    including this one, and ``limit`` is the limit at that time.
    """

    number: int
    answered: int
    under_way: int
    limit: float


class Permit:
    """The permission to send one request; a ``with`` block gives it back.

    ``tokens`` is the number of tokens that were generated, as far as the server reports it.
    """

    __slots__ = (
        "_estimate",
        "_has_process_slot",
        "_share",
        "_size",
        "outcome",
        "place",
        "sent_at",
        "tokens",
    )

    def __init__(
        self, share: EngineShare, now: float, size: RequestSize | None, estimate: float
    ) -> None:
        self.sent_at = now
        self.outcome = RequestOutcome.ANSWERED
        self.tokens = 1.0
        self.place: QueuePlace | None = None
        self._share = share
        self._size = size
        self._estimate = estimate
        self._has_process_slot = True

    def end_request(self) -> None:
        """Give back the slot of the process, because the answer has arrived.

        What an attempt asks the server after that needs a slot of the process too.
        """
        if self._has_process_slot:
            self._has_process_slot = False
            self._share.leave_process()

    def count(self, usage: Usage | None) -> None:
        """Note the usage of the request, if the server has reported it."""
        prompt = None if usage is None else usage.prompt_tokens
        generated = None if usage is None else usage.completion_tokens
        if generated is not None:
            self.tokens = float(max(1, generated))
            if prompt is not None and self._size is not None:
                self._share.correct(self._size, self._estimate, prompt, generated)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.outcome = outcome_of(error)
        self.end_request()
        self._share.leave(self)


def outcome_of(error: BaseException) -> RequestOutcome:
    """What an error says about the load of the server."""
    if isinstance(error, RateLimitError):
        return RequestOutcome.RATE_LIMITED if error.retryable else RequestOutcome.OTHER
    if isinstance(error, APITimeoutError) and error.clock not in {"connect", "cold_start"}:
        return RequestOutcome.TIMED_OUT
    overloaded = getattr(error, "status", None) == 503  # noqa: PLR2004 - Service Unavailable
    return RequestOutcome.OVERLOADED if overloaded else RequestOutcome.OTHER


class Limiter:
    """The limits that some engines share: a pause, rates, a circuit breaker and slots."""

    def __init__(self, origin: str, config: LimiterConfig | None = None) -> None:
        self.config = config
        self.pause = Pause()
        self.requests = RequestRate()
        self.tokens = TokenRate()
        self.breaker = CircuitBreaker(origin)
        self.owners: WeakSet[object] = WeakSet()
        self.slots = [Slots(control=self.breaker)]
        most = None if config is None else config.max_concurrency
        if most == AUTO:
            self.slots.append(Slots(control=AdaptiveLimit()))
        elif most is not None:
            self.slots.append(Slots(float(most)))


@dataclass(slots=True, eq=False)
class _Waiter:
    """A call that waits for a permit; it waits until ``until`` seconds in pauses have passed."""

    permit: asyncio.Future[Permit]
    size: RequestSize | None
    patience: float
    until: float


class EngineShare:
    """The place of one engine at a limiter, and its calls that wait, first come, first served.

    ``weight`` is its part of what it has in common with other engines, relative to theirs.
    Requests that are answered ``in_process`` need no slot of the process.
    """

    def __init__(  # noqa: PLR0913 - the one place where all are needed
        self,
        dispatcher: Dispatcher,
        limiter: Limiter,
        slots: Iterable[Slots],
        *,
        weight: float = 1.0,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        in_process: bool = False,
    ) -> None:
        self.limiter = limiter
        self.weight = weight
        self.in_flight = 0
        self.waiting: deque[_Waiter] = deque()
        self._dispatcher = dispatcher
        self._slots = tuple(slots)
        self._requests_per_minute = requests_per_minute
        self._tokens_per_minute = tokens_per_minute
        self._has_rates = requests_per_minute is not None or tokens_per_minute is not None
        self._in_process = in_process

    @property
    def limit(self) -> float:
        """How many requests may be under way by the slots alone."""
        return min((slots.limit for slots in self._slots), default=inf)

    def state(self) -> LimiterState:
        """The state at this moment; thread-safe."""
        limiter, now, rate = self.limiter, self._dispatcher.now(), self._tokens_per_minute
        return LimiterState(
            self.limit,
            self.in_flight,
            len(self.waiting),
            None if rate is None else limiter.tokens.left(rate, now),
            limiter.pause.left(now),
            limiter.breaker.is_open,
        )

    def try_acquire(self, size: RequestSize | None = None) -> Permit | None:
        """A permit, if the request may be sent at once and no other call of the engine waits."""
        if self.waiting or not self.is_free(now := self._dispatcher.now()):
            return None
        return self.grant(size, now)

    async def acquire(self, size: RequestSize | None = None, patience: float = inf) -> Permit:
        """Wait for a permit.

        Raises RateLimitError (clock ``wait``) if the call would spend more than `patience`
        seconds in pauses that the server asked for. It is raised as soon as this is known, so at
        once if the present pause is too long.
        """
        now, pause = self._dispatcher.now(), self.limiter.pause
        if pause.left(now) > patience:
            raise self._too_long(patience, now)
        future: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self.waiting.append(_Waiter(future, size, patience, pause.total(now) + patience))
        self._dispatcher.add(self)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                with future.result() as permit:  # it was given in the same moment
                    permit.outcome = RequestOutcome.OTHER
            self._dispatcher.dispatch()
            raise

    def free_at(self) -> float:
        """When the next request may be sent, as far as that is a matter of time."""
        limiter = self.limiter
        when = limiter.pause.ends_at
        if not self._has_rates:
            return when
        if self._requests_per_minute is not None:
            when = max(when, limiter.requests.free_at)
        if self._tokens_per_minute is not None:
            when = max(when, limiter.tokens.free_at)
        return when

    def is_free(self, now: float) -> bool:
        """Whether a request may be sent now."""
        if now < self.free_at() or not (self._in_process or self._dispatcher.has_room):
            return False
        for slots in self._slots:  # noqa: SIM110 - a generator takes twice as long
            if slots.taken >= slots.limit:
                return False
        return True

    def grant(self, size: RequestSize | None, now: float) -> Permit:
        """Give a permit now."""
        limiter, estimate = self.limiter, 0.0
        if self._requests_per_minute is not None:
            limiter.requests.take(self._requests_per_minute, now)
        if self._tokens_per_minute is not None and size is not None:
            estimate = limiter.tokens.estimate(size)
            limiter.tokens.take(estimate, self._tokens_per_minute, now)
        permit = Permit(self, now, size, estimate)
        for slots in self._slots:
            slots.enter(permit)
        self._dispatcher.taken += not self._in_process
        self.in_flight += 1
        return permit

    def leave_process(self) -> None:
        """Give back the slot of the process that a permit has."""
        if not self._in_process:
            self._dispatcher.taken -= 1
            self._dispatcher.dispatch()

    def leave(self, permit: Permit) -> None:
        """Give a permit back."""
        now = self._dispatcher.now()
        for slots in self._slots:
            slots.leave(permit, now)
        self.in_flight -= 1
        self._dispatcher.dispatch()

    @property
    def counts_tokens(self) -> bool:
        """Whether the tokens of requests are limited, so that their sizes are needed."""
        return self._tokens_per_minute is not None

    def correct(self, size: RequestSize, estimate: float, prompt: int, generated: int) -> None:
        """Correct the token rate by the tokens that a request has used."""
        if self._tokens_per_minute is not None:
            tokens = self.limiter.tokens
            tokens.correct(prompt + generated - estimate, self._tokens_per_minute)
            tokens.learn(size, prompt, generated)

    def read_headers(self, headers: Mapping[str, str]) -> None:
        """Send less if the headers of an answer say that fewer tokens are left."""
        if self._tokens_per_minute is not None:
            now = self._dispatcher.now()
            self.limiter.tokens.read(headers, self._tokens_per_minute, now)

    def refuse_impatient(self, now: float) -> None:
        """End the calls that would wait too long for the end of the present pause."""
        pause = self.limiter.pause
        if pause.left(now):
            until = pause.total(now) + pause.left(now)
            for waiter in self.waiting:
                if waiter.until < until and not waiter.permit.done():
                    waiter.permit.set_exception(self._too_long(waiter.patience, now))

    def _too_long(self, patience: float, now: float) -> RateLimitError:
        pause = self.limiter.pause
        return RateLimitError(
            f"{pause.origin} asks to wait {pause.left(now):.3g} s more (it answered another call "
            f"with HTTP 429), but this call may wait {patience:g} s at most, by its timeout.wait",
            clock="wait",
            retry_after=pause.left(now),
        )


class Dispatcher:
    """Gives permits to the shares of all engines of the process.

    If several shares could use the next permit, the one gets it that has the fewest requests in
    flight for its weight.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        self.now = loop.time
        self.taken = 0
        self._loop = loop
        self._limit = limit
        self._limiters: dict[Hashable, Limiter] = {}
        self._adaptive: dict[Hashable, Slots] = {}
        self._shares: WeakKeyDictionary[object, dict[Hashable, EngineShare]] = WeakKeyDictionary()
        self._waiting: dict[EngineShare, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def has_room(self) -> bool:
        """Whether the process may have one more request under way."""
        return self.taken < self._limit

    # ---- the limits that engines have in common

    def limiter(
        self, owner: object, origin: str, credential: int, config: LimiterConfig | None
    ) -> Limiter:
        """The limiter of an engine: the configured one, or else that of its address and key.

        Raises ConfigError if an engine that still exists uses a limiter with the same name and
        other limits.
        """
        key: Hashable = (origin, credential) if config is None else config
        if key not in self._limiters:
            self._limiters[key] = Limiter(origin, config)
        limiter = self._limiters[key]
        if config is not None and self._has_rival(config):
            gc.collect()  # an engine that nobody can use any more is no reason for an error
            if self._has_rival(config):
                raise ConfigError(
                    f"limiter {config.name!r}: another engine of this process has a limiter with "
                    "that name and other limits; give both engines the same limits, or choose "
                    "another name"
                )
        limiter.owners.add(owner)
        return limiter

    def _has_rival(self, config: LimiterConfig) -> bool:
        return any(
            other.owners and other.config != config
            for other in self._limiters.values()
            if other.config is not None and other.config.name == config.name
        )

    def existing(
        self, origin: str, credential: int, config: LimiterConfig | None
    ) -> Limiter | None:
        """The limiter of an engine, if it is in use; thread-safe."""
        return self._limiters.get((origin, credential) if config is None else config)

    def limiters(self) -> list[Limiter]:
        """All limiters; thread-safe."""
        return list(self._limiters.values())

    def adaptive(self, key: Hashable) -> Slots:
        """The adaptive number of requests of a server, which has that key."""
        if key not in self._adaptive:
            self._adaptive[key] = Slots(control=AdaptiveLimit())
        return self._adaptive[key]

    def share(self, owner: object, key: Hashable, make: Callable[[], EngineShare]) -> EngineShare:
        """The share of an engine with that key, made by `make` if it does not exist yet."""
        shares = self._shares.setdefault(owner, {})
        if key not in shares:
            shares[key] = make()
        return shares[key]

    # ---- who gets the next permit

    def add(self, share: EngineShare) -> None:
        """Let a share, which has a call that waits, wait for permits."""
        self._waiting[share] = None
        self.dispatch()

    def dispatch(self) -> None:
        """Give as many permits as possible."""
        if not self._waiting:
            return
        now = self.now()
        while True:
            for share in [s for s in self._waiting if not _has_waiter(s)]:
                del self._waiting[share]
            free = [share for share in self._waiting if share.is_free(now)]
            if not free:
                break
            share = min(free, key=_use)
            waiter = share.waiting.popleft()
            waiter.permit.set_result(share.grant(waiter.size, now))
        later = [when for share in self._waiting if (when := share.free_at()) > now]
        if later:
            self._wake_at(min(later))

    def _wake_at(self, when: float) -> None:
        timer = self._timer
        if timer is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timer = self._loop.call_at(when, self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = self.now()
        for share in self._waiting:
            share.refuse_impatient(now)
        self.dispatch()


def _has_waiter(share: EngineShare) -> bool:
    """Whether a call still waits; calls that were cancelled or refused are dropped."""
    while share.waiting and share.waiting[0].permit.done():
        share.waiting.popleft()
    return bool(share.waiting)


def _use(share: EngineShare) -> float:
    return share.in_flight / share.weight
