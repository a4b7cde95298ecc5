"""A server under load: slots, a queue, the pace of tokens, and failures by chance.

What happens to a request depends only on the seed, on the request, and on how often the same
request came before, so it is the same in every run, also with concurrent requests.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import OrderedDict, deque
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from llmengine.mock.json_fields import is_number
from llmengine.mock.script import NO_FAULT, Fault, is_count, is_duration, shown
from llmengine.types.arguments import checked_fields
from llmengine.types.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmengine.mock.behaviour import RawReply, ReceivedRequest


@checked_fields(InvalidFieldError)
@dataclass(frozen=True, slots=True)
class Chaos:
    """Failures by chance; each of the first five is the probability of its failure per request.

    - ``status``: answer with one of the ``statuses``, and ``retry_after`` seconds in the header if
      it is not None.
    - ``cut``: drop the connection at a random place of the answer.
    - ``stall``: stop at a random place, and send nothing until the client goes away.
    - ``slow``: wait ``slow_seconds`` before the first byte.
    - ``malformed``: send a body or an event that is not JSON.

    A request has at most one failure, so the sum of the probabilities is at most 1.
    """

    status: float = 0.0
    cut: float = 0.0
    stall: float = 0.0
    slow: float = 0.0
    malformed: float = 0.0
    statuses: tuple[int, ...] = (429, 500, 503)
    retry_after: float | None = None
    slow_seconds: float = 5.0

    def __post_init__(self) -> None:
        _check("Chaos", self, _CHAOS_FIELDS)
        if (total := sum(getattr(self, kind) for kind in FAILURES)) > 1:
            raise InvalidFieldError(f"Chaos: the probabilities add up to {total:g}; at most 1")


FAILURES = ("status", "cut", "stall", "slow", "malformed")


@checked_fields(InvalidFieldError)
@dataclass(frozen=True, slots=True)
class Load:
    """How busy and how fast the server is; the default is idle and answers at once.

    - ``slots``: so many requests are answered at once, and more requests wait.
    - ``queue``: so many requests may wait; any further one gets a 429 at once, with ``retry_after``
      seconds in its header if it is not None. None means no limit.
    - ``time_to_first_token``: the seconds before the first byte of an answer.
    - ``tokens_per_second``: the pace of each answer, for a stream between its events. None means
      at once.
    - ``jitter``: each of these times is longer or shorter by up to this share, from 0 to 1.
    - ``chaos``: failures by chance.
    - ``seed``: another seed gives other jitter and other failures.
    """

    slots: int | None = None
    queue: int | None = None
    retry_after: float | None = 1.0
    time_to_first_token: float = 0.0
    tokens_per_second: float | None = None
    jitter: float = 0.0
    chaos: Chaos = field(default_factory=Chaos)
    seed: int = 0

    def __post_init__(self) -> None:
        _check("Load", self, _LOAD_FIELDS)
        if self.queue is not None and self.slots is None:
            raise InvalidFieldError("Load: queue has no effect without slots; give both")


def _is_share(value: object) -> bool:
    return is_number(value) and 0 <= value <= 1  # type: ignore[operator]


def _is_slot_count(value: object) -> bool:
    return value is None or is_count(value, 1)


def _are_statuses(value: object) -> bool:
    return isinstance(value, tuple | list) and bool(value) and all(map(_is_status, value))


def _is_status(value: object) -> bool:
    return is_count(value, 400) and value <= 599  # type: ignore[operator]


def _is_optional_duration(value: object) -> bool:
    return value is None or is_duration(value)


_PROBABILITY = ("a probability from 0 to 1", _is_share)
_OPTIONAL_SECONDS = ("a number of seconds, or None", _is_optional_duration)
_CHAOS_FIELDS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    **dict.fromkeys(FAILURES, _PROBABILITY),
    "statuses": ("a tuple of statuses from 400 to 599", _are_statuses),
    "retry_after": _OPTIONAL_SECONDS,
    "slow_seconds": ("a number of seconds", is_duration),
}
_LOAD_FIELDS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "slots": ("a whole number above 0, or None", _is_slot_count),
    "queue": ("a whole number, or None", lambda value: value is None or is_count(value)),
    "retry_after": _OPTIONAL_SECONDS,
    "time_to_first_token": ("a number of seconds", is_duration),
    "tokens_per_second": (
        "a number above 0, or None",
        lambda value: value is None or (is_duration(value) and value != 0),
    ),
    "jitter": ("a share from 0 to 1", _is_share),
    "chaos": ("a Chaos", lambda value: isinstance(value, Chaos)),
    "seed": ("a whole number", lambda value: isinstance(value, int)),
}


def _check(
    what: str, value: Chaos | Load, table: Mapping[str, tuple[str, Callable[[object], bool]]]
) -> None:
    for one in fields(value):
        wanted, fits = table[one.name]
        given = getattr(value, one.name)
        if not fits(given):
            raise InvalidFieldError(f"{what}: {one.name} is {shown(given)}; it must be {wanted}")


# ---- what happens to one request


class LoadEffect:
    """What the load does to one request: its failure, if it has one, and its pace."""

    def __init__(self, load: Load, identity: str) -> None:
        self._load = load
        self._chance = random.Random(f"{load.seed} {identity}")  # nosec B311  # noqa: S311 - repeatable on purpose
        drawn = self._chance.random()
        self._place = self._chance.random()
        self.failure = _failure(load.chaos, drawn)

    @property
    def status_fault(self) -> Fault | None:
        """The fault of a request that fails with a status; None for any other."""
        if self.failure != "status":
            return None
        chaos = self._load.chaos
        status = chaos.statuses[int(self._place * len(chaos.statuses))]
        return Fault(status=status, retry_after=chaos.retry_after)

    def fault(self, reply: RawReply) -> Fault:
        """The failure of an answer as a fault."""
        if self.failure is None:
            return NO_FAULT
        at = int(self._place * len(reply.chunks))
        if self.failure == "cut" and len(reply.chunks) == 1:
            return Fault(split_at=max(1, len(reply.chunks[0]) // 2), cut_after=1)
        return {
            "cut": Fault(cut_after=at),
            "stall": Fault(stall_after=at),
            "slow": Fault(delay=self._load.chaos.slow_seconds),
            "malformed": Fault(malformed_json=True),
        }[self.failure]

    @property
    def is_paced(self) -> bool:
        """Whether the load says how long the tokens of the answer take."""
        return self._load.tokens_per_second is not None

    def seconds_to_first_token(self) -> float:
        """The seconds before the first byte."""
        return self._load.time_to_first_token * self._jitter()

    def seconds_per_token(self, tokens: int = 1) -> float:
        """The seconds that so many tokens take, each with its own jitter."""
        pace = self._load.tokens_per_second
        return sum(self._jitter() for _ in range(tokens)) / pace if pace else 0.0

    def _jitter(self) -> float:
        share = self._load.jitter
        return self._chance.uniform(1 - share, 1 + share) if share else 1.0


def _failure(chaos: Chaos, drawn: float) -> str | None:
    for kind in FAILURES:
        drawn -= getattr(chaos, kind)
        if drawn < 0:
            return kind
    return None


_MOST_REMEMBERED = 100_000


class LoadSimulator:
    """Draws what the load does to each request; the same request again is another draw."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self._times: OrderedDict[bytes, int] = OrderedDict()

    def effect_on(self, request: ReceivedRequest) -> LoadEffect:
        """What the load does to a request."""
        said = f"{request.method} {request.path} ".encode() + request.body
        digest = hashlib.blake2b(said, digest_size=16).digest()
        times = self._times.pop(digest, 0) + 1
        self._times[digest] = times
        if len(self._times) > _MOST_REMEMBERED:
            self._times.popitem(last=False)
        return LoadEffect(self.load, f"{digest.hex()} {times}")


# ---- slots

# How often a request that waits looks whether its client has gone away.
_LOOK_EVERY = 0.02


class SlotQueue:
    """The slots of a server, which requests take in the order in which they came.

    It belongs to the event loop of the server. ``taken`` counts the requests that have a slot.
    """

    def __init__(self) -> None:
        self.size: int | None = None
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """The number of requests that wait for a slot."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether the next request has to wait."""
        return self.size is not None and self.taken + self.waiting >= self.size

    async def enter(self, gone: Callable[[], bool]) -> bool:
        """Wait for a slot and take it; False if the client has gone away before that."""
        if not self.is_full:
            self.taken += 1
            return True
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            while not turn.done() and not gone():
                await asyncio.wait({turn}, timeout=_LOOK_EVERY)
        except BaseException:
            self._withdraw(turn)
            raise
        if not turn.done():
            self._withdraw(turn)
        return turn.done()

    def leave(self) -> None:
        """Give the slot to the next request that waits, or back."""
        self.taken -= 1
        while self._waiting and (self.size is None or self.taken < self.size):
            self._waiting.popleft().set_result(None)
            self.taken += 1

    def _withdraw(self, turn: asyncio.Future[None]) -> None:
        if turn.done():
            self.leave()
        else:
            self._waiting.remove(turn)
