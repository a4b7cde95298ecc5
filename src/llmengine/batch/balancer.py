"""The choice among several endpoints of one model: the least loaded one that does not fail."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llmengine.engine.call import Call
from llmengine.engine.health import FIRST_REST, ServerHealth
from llmengine.types.errors import CallError
from llmengine.types.secrets import secret_address

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from llmengine.engine.engine import Engine
    from llmengine.transport.loop import Background


class Endpoint:
    """The server of one engine, with its load and its health; used on the background loop only.

    An endpoint whose server rests gets no requests, as ServerHealth says.
    """

    def __init__(self, engine: Engine, loop: Background, *, first_rest: float = FIRST_REST) -> None:
        self.engine = engine
        # Read here, outside of the loop, because reading the address may start a server.
        self._urls = engine.backend.urls()
        self._loop = loop
        self._outstanding = 0
        self._requests = 0
        self._health = ServerHealth(engine, first_rest=first_rest)

    def call(self, url: str) -> Call:
        """The Call for a route of the batch format, such as ``/v1/...``, at this endpoint."""
        backend = self.engine.backend
        address = secret_address(self._urls.base + url.removeprefix("/v1"))
        return Call(backend, backend.connect(self._loop, self._urls._replace(chat=address)))

    @property
    def out(self) -> bool:
        """Whether the endpoint rests or is on trial."""
        return self._health.is_out

    @property
    def pause(self) -> float:
        """The seconds left of a pause that the server asked for; any thread may read it."""
        engine = self.engine
        credential = engine.backend.address.credential
        return self._loop.pause(self._urls.root, credential, engine.config.limiter)

    @property
    def load(self) -> tuple[float, int]:
        """A sort key: the share of its concurrency that is in use, then its requests so far."""
        return self._outstanding / self.engine.backend.present_limit, self._requests

    def trial_in(self, now: float) -> float:
        """Seconds until the endpoint may get its trial; infinite if it is not resting."""
        return self._health.trial_in(now)

    @contextmanager
    def attempt(self, *, trial: bool) -> Iterator[None]:
        """Count a request while it is under way, and note its success or failure."""
        self._outstanding += 1
        self._requests += 1
        try:
            with self._health.call(trial=trial):
                yield
        except CallError as error:
            self._health.note(error, trial=trial)
            raise
        else:
            self._health.note(None, trial=trial)
        finally:
            self._outstanding -= 1


class Balancer:
    """Chooses the endpoint for each attempt; used on the background loop only."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints

    def pick(self, tried: Collection[Endpoint]) -> tuple[Endpoint, bool] | None:
        """The endpoint for the next attempt, and whether it is its trial; None if there is none.

        ``tried`` are the endpoints that just failed with this request. An endpoint whose rest has
        ended comes first and gets its trial. Otherwise it is the least loaded one that does not
        rest, or, if all rest, the one whose rest ends first. So only the retry rules decide how
        long a request waits for a server.
        """
        now = asyncio.get_running_loop().time()
        left = [e for e in self._endpoints if e not in tried]
        due = next((e for e in left if e.trial_in(now) <= 0), None)
        if due is not None:
            return due, True
        healthy = [e for e in left if not e.out]
        free = [e for e in healthy if not e.pause]
        if free or (healthy and not tried):
            return min(free or healthy, key=lambda e: e.load), False
        return None if tried else (min(left, key=lambda e: e.trial_in(now)), False)
