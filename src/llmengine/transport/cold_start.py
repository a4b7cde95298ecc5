"""Waiting for a server that is asleep; all calls to one server wait together.

Platforms that scale to zero answer 502, 503 or 504, or refuse connections, while an instance
starts. A model server takes minutes to start, which is too long for the clocks and retries of a
prompt.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from math import inf
from typing import TYPE_CHECKING, TypeVar

from llmengine.types.errors import APIConnectionError, APITimeoutError, CallError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from llmengine.transport.base import HTTPRequest, Transport

    Probe = Callable[[], Awaitable[str | None]]


log = logging.getLogger("llmengine")

T = TypeVar("T")

PROBE_TIMEOUT = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_ASLEEP = frozenset({502, 503, 504})


async def trouble_at(transport: Transport, request: HTTPRequest) -> str | None:
    """What keeps the server from answering a cheap request; None if it is awake.

    An answer of the server itself means that it is awake, even if it refuses the request: the
    prompts will then get the full error.
    """
    try:
        reply = await transport.fetch(request)
    except (APIConnectionError, APITimeoutError) as error:
        return None if _is_lasting(error) else error.message
    except CallError:  # the server is awake, although its answer cannot be read
        return None
    return f"HTTP {reply.status} from {request.url}" if reply.status in _ASLEEP else None


class Readiness:
    """Whether one server is awake; used on the background loop.

    The probe returns what keeps the server from answering, or None. The first call that finds the
    server asleep probes it again and again, with growing pauses; all other calls wait for it.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._probing = asyncio.Lock()
        self._awake = False
        self._woke_at = self._gave_up_at = -inf
        self._asleep_since: float | None = None
        self._trouble = ""

    async def attempt(self, once: Callable[[], Awaitable[T]], probe: Probe, bound: float) -> T:
        """The result of `once`, which is called when the server is awake.

        If it fails because the server has fallen asleep, it is called a second time. Raises
        APITimeoutError (clock ``cold_start``) if the server does not wake within `bound` seconds.
        """
        sent = _now()
        if not self._awake:
            await self._wait(sent, probe, bound)
            sent = _now()
        try:
            return await once()
        except CallError as error:
            if not _means_asleep(error) or not await self._wait(sent, probe, bound):
                raise
        return await once()

    async def _wait(self, since: float, probe: Probe, bound: float) -> bool:
        """Wait until the server is awake; return whether it has slept after `since`."""
        came = _now()
        async with self._probing:
            if self._woke_at > since:
                return True
            if self._gave_up_at > came:
                raise self._never_woke(bound)
            slept = self._asleep_since is not None
            for pause in _pauses():
                trouble = await probe()
                if trouble is None:
                    self._set_awake()
                    return slept
                slept = True
                await asyncio.sleep(min(pause, self._set_asleep(trouble, bound)))
        raise AssertionError  # the loop ends by returning or raising

    def _set_awake(self) -> None:
        if self._asleep_since is not None:
            self._woke_at = _now()
            log.info("%s is awake after %.1f s", self._origin, self._woke_at - self._asleep_since)
        self._awake, self._asleep_since = True, None

    def _set_asleep(self, trouble: str, bound: float) -> float:
        """Note that the server is asleep; return the seconds that are left for it to wake up."""
        self._awake = False
        if self._asleep_since is None or self._may_wait_again(bound):
            self._asleep_since = _now()
            log.info("%s is asleep (%s); waiting up to %g s", self._origin, trouble, bound)
        left = self._asleep_since + bound - _now()
        if left <= 0:
            if self._gave_up_at < self._asleep_since:
                log.info("%s did not wake within %g s", self._origin, bound)
            self._gave_up_at, self._trouble = _now(), trouble
            raise self._never_woke(bound)
        return left

    def _may_wait_again(self, bound: float) -> bool:
        """Whether the last call was so long ago that a full new wait may begin.

        Until then, each new call probes a server that did not wake in time only once. Otherwise
        thousands of prompts would each wait for it, one after another.
        """
        assert self._asleep_since is not None
        return _now() > max(self._asleep_since + bound, self._gave_up_at) + bound

    def _never_woke(self, bound: float) -> APITimeoutError:
        msg = (
            f"{self._origin} did not wake within {bound:g} s ({self._trouble}); check whether its "
            "instance can start, or set a larger cold_start for the engine"
        )
        return APITimeoutError(msg, clock="cold_start")


def _now() -> float:
    return asyncio.get_running_loop().time()


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE)


def _means_asleep(error: CallError) -> bool:
    if error.status is not None:
        return error.status in _ASLEEP and error.retryable
    unreachable = isinstance(error, (APIConnectionError, APITimeoutError))
    return unreachable and error.retryable and not _is_lasting(error)


def _is_lasting(error: BaseException) -> bool:
    """Whether waiting does not help: the host does not exist, or its certificate is wrong."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, (socket.gaierror, ssl.SSLError)):
        cause = cause.__cause__ or getattr(cause, "os_error", None) or cause.__context__
    return cause is not None
