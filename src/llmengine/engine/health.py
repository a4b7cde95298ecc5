"""The health of an engine's server, by how its last calls ended."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING

from llmengine.types.errors import (
    APIConnectionError,
    APITimeoutError,
    CallError,
    InternalServerError,
    UnexpectedResponseError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.types.errors import LLMEngineError


log = logging.getLogger("llmengine")

EJECT_AFTER = 3
FIRST_REST = 1.0
LONGEST_REST = 60.0


class ServerHealth:
    """Whether a server should get calls; used on the background loop only.

    A server that fails several times in a row rests: it should get no calls for ``first_rest``
    seconds. Then one call is its trial. Each failed trial doubles the rest, up to a minute.
    ``engine`` is shown in the log.
    """

    def __init__(self, engine: object, *, first_rest: float = FIRST_REST) -> None:
        self._engine = engine
        self._failures = 0
        self._first_rest = self._rest = first_rest
        self._out_until: float | None = None
        self._on_trial = False

    @property
    def is_out(self) -> bool:
        """Whether the server rests or is on trial."""
        return self._out_until is not None

    def trial_in(self, now: float) -> float:
        """Seconds until the server may get its trial; infinite if it is not resting."""
        if self._out_until is None or self._on_trial:
            return inf
        return self._out_until - now

    @contextmanager
    def call(self, *, trial: bool) -> Iterator[None]:
        """Hold the trial, if it is one, while the call is under way."""
        self._on_trial = self._on_trial or trial
        try:
            yield
        finally:
            self._on_trial = self._on_trial and not trial

    def note(self, error: LLMEngineError | None, *, trial: bool) -> None:
        """Take note of how a call ended.

        A refusal is a success here, because the server works. After three failures in a row, the
        server rests. Failures of calls that were already under way then change nothing; only a
        failed trial makes the rest longer.
        """
        if isinstance(error, CallError):
            if _is_server_failure(error):
                self._note_failure(error, trial=trial)
                return
            if error.clock == "wait":  # nothing was sent
                return
        elif error is not None:
            return  # nothing was sent
        if self.is_out:
            log.info("%s answers again", self._engine)
        self._failures, self._rest, self._out_until = 0, self._first_rest, None

    def _note_failure(self, error: CallError, *, trial: bool) -> None:
        self._failures += 1
        if trial:
            self._rest = min(self._rest * 2, LONGEST_REST)
        elif self.is_out or self._failures < EJECT_AFTER:
            return
        self._out_until = asyncio.get_running_loop().time() + self._rest
        name = type(error).__name__
        log.info("%s gets no requests for %g s: %s", self._engine, self._rest, name)


def _is_server_failure(error: CallError) -> bool:
    """Whether the server is the cause of a failure, and not the request."""
    if isinstance(error, UnexpectedResponseError):
        return error.cut
    return isinstance(error, (APIConnectionError, APITimeoutError, InternalServerError))
