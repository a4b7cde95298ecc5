"""Several endpoints of one model: which one is asked next, and which ones rest after failures."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING

from llmengine.engine.call import Call
from llmengine.types.errors import (
    APIConnectionError,
    APITimeoutError,
    CallError,
    InternalServerError,
    UnexpectedResponseError,
)
from llmengine.types.secrets import secret_address

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from llmengine.engine.engine import Engine
    from llmengine.transport.loop import Background


log = logging.getLogger("llmengine")

EJECT_AFTER = 3
FIRST_REST = 1.0
LONGEST_REST = 60.0


class Endpoint:
    """The server of one engine, with its load and its health; used on the background loop only.

    ``first_rest`` is how long the endpoint rests the first time, in seconds. Each failed trial
    doubles the rest, up to a minute.
    """

    def __init__(self, engine: Engine, loop: Background, *, first_rest: float = FIRST_REST) -> None:
        self.engine = engine
        # Found here, before the loop is entered, because finding the address may start a server.
        self._urls = engine.backend.urls()
        self._loop = loop
        self._outstanding = 0
        self._asked = 0
        self._failures = 0
        self._first_rest = self._rest = first_rest
        self._out_until: float | None = None
        self._on_trial = False

    def call(self, url: str) -> Call:
        """The Call for a route of the batch format, such as ``/v1/...``, at this endpoint."""
        backend = self.engine.backend
        address = secret_address(self._urls.base + url.removeprefix("/v1"))
        return Call(backend, backend.connect(self._loop, self._urls._replace(chat=address)))

    @property
    def out(self) -> bool:
        """Whether the endpoint rests, or is on trial, after it failed too often."""
        return self._out_until is not None

    @property
    def pause(self) -> float:
        """The seconds left of a pause that the server asked for; may be read from any thread."""
        return self._loop.pause(self._urls.root, self.engine.backend.address.credential)

    @property
    def load(self) -> tuple[float, int]:
        """A sort key: the share of its concurrency that is in use, then the requests it had."""
        return self._outstanding / self.engine.backend.concurrency, self._asked

    def trial_in(self, now: float) -> float:
        """Seconds until the endpoint may get a trial; infinite if it is on trial or not resting."""
        if self._out_until is None or self._on_trial:
            return inf
        return self._out_until - now

    @contextmanager
    def attempt(self, *, trial: bool) -> Iterator[None]:
        """Count a request while it is under way, and note its success or failure.

        A refusal shows that the server is alive. After three failures in a row, the endpoint
        rests. Failures of requests that were already under way then change nothing; only a failed
        trial makes the rest longer.
        """
        self._outstanding += 1
        self._asked += 1
        self._on_trial = self._on_trial or trial
        try:
            yield
        except CallError as error:
            if _is_dead(error):
                self._failed(error, trial=trial)
            elif error.clock != "wait":  # else nothing was sent
                self._answered()
            raise
        else:
            self._answered()
        finally:
            self._outstanding -= 1
            self._on_trial = self._on_trial and not trial

    def _answered(self) -> None:
        if self.out:
            log.info("%s is back", self.engine)
        self._failures, self._rest, self._out_until = 0, self._first_rest, None

    def _failed(self, error: CallError, *, trial: bool) -> None:
        self._failures += 1
        if trial:
            self._rest = min(self._rest * 2, LONGEST_REST)
        elif self.out or self._failures < EJECT_AFTER:
            return
        self._out_until = asyncio.get_running_loop().time() + self._rest
        log.info("%s rests for %g s: %s", self.engine, self._rest, type(error).__name__)


class Balancer:
    """Chooses the endpoint for each attempt; used on the background loop only."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints

    def pick(self, tried: Collection[Endpoint]) -> tuple[Endpoint, bool] | None:
        """The endpoint to ask next, and whether this is its trial; None if there is no other.

        ``tried`` are the endpoints that just failed with this prompt. An endpoint whose rest is
        over comes first and gets its trial; else the least loaded one that is not resting; else,
        if all are resting, the one whose rest ends first. So only the retry rules decide how
        long a prompt waits for a server.
        """
        now = asyncio.get_running_loop().time()
        left = [e for e in self._endpoints if e not in tried]
        due = next((e for e in left if e.trial_in(now) <= 0), None)
        if due is not None:
            return due, True
        alive = [e for e in left if not e.out]
        awake = [e for e in alive if not e.pause]
        if awake or (alive and not tried):
            return min(awake or alive, key=lambda e: e.load), False
        return None if tried else (min(left, key=lambda e: e.trial_in(now)), False)


def _is_dead(error: CallError) -> bool:
    """Whether the cause of a failure is the server and not the request."""
    if isinstance(error, UnexpectedResponseError):
        return error.cut
    return isinstance(error, (APIConnectionError, APITimeoutError, InternalServerError))
