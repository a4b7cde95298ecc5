"""The requests that a mock server has received, up to a number and a size."""

from __future__ import annotations

import logging

from llmengine.mock.behaviour import ReceivedRequest

MAX_CALLS = 10_000
MAX_BYTES = 16 * 2**20

_log = logging.getLogger("llmengine.mock")


class RequestLog(list[ReceivedRequest]):
    """A list of requests, from which the oldest are dropped if there are too many.

    The limits are a number of requests and the bytes of all bodies. ``dropped`` is the number of
    requests that were dropped; the first time, a warning is logged too.
    """

    def __init__(self, max_calls: int = MAX_CALLS, max_bytes: int = MAX_BYTES) -> None:
        super().__init__()
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self.dropped = 0
        self._bytes = 0

    def record(self, request: ReceivedRequest) -> None:
        """Add a request, and drop the oldest ones if the limits are exceeded.

        The newest request is always kept.
        """
        self.append(request)
        self._bytes += len(request.body)
        if len(self) <= self._max_calls and self._bytes <= self._max_bytes:
            return
        # The list may have been changed from outside, so that the sum is not the bytes in it.
        self._bytes = sum(len(one.body) for one in self)
        while len(self) > 1 and (len(self) > self._max_calls or self._bytes > self._max_bytes):
            self._drop_the_oldest()

    def _drop_the_oldest(self) -> None:
        if not self.dropped:
            _log.warning(
                "more than %d requests or %d bytes of bodies were received; calls has only the "
                "newest of them, and calls.dropped is the number of the others",
                self._max_calls,
                self._max_bytes,
            )
        self._bytes -= len(self.pop(0).body)
        self.dropped += 1
