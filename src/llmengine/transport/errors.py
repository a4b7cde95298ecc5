"""The errors of HTTP clients, as errors of this library."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmengine.transport.mocks import unanswered
from llmengine.types.errors import APIConnectionError, APITimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.transport.base import HTTPRequest
    from llmengine.types.errors import CallError

    Classes = type[Exception] | tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True)
class ClientErrors:
    """The exception classes of an HTTP client, by what they mean.

    ``connect_timeout`` and ``unconnected``: there was no connection in time, or none at all.
    ``unreadable``: the answer is not HTTP. ``broken`` are all its other exceptions. The built-in
    TimeoutError means that the total clock ran out.
    """

    connect_timeout: Classes = ()
    unconnected: Classes = ()
    unreadable: Classes = ()
    broken: Classes = OSError

    def as_ours(self, error: Exception, request: HTTPRequest) -> CallError:
        """The error of this library for an exception that the client raised for a request."""
        if (refused := unanswered(error, request.url)) is not None:
            return refused
        if isinstance(error, self.connect_timeout):
            msg = f"no connection to {request.url} within {request.connect:g} s"
            return APITimeoutError(msg, clock="connect")
        if isinstance(error, TimeoutError) and request.total is not None:
            msg = f"the answer from {request.url} was not complete within {request.total:g} s"
            return APITimeoutError(msg, clock="total")
        if isinstance(error, self.unconnected):
            msg = f"cannot connect to {request.url}: {_reason(error)}"
            return APIConnectionError(msg, connected=False)
        if isinstance(error, self.unreadable):
            msg = f"the answer from {request.url} is not valid HTTP: {_reason(error)}"
            return APIConnectionError(msg)
        reason = str(error) or type(error).__name__
        return APIConnectionError(f"the connection to {request.url} broke: {reason}")

    @contextmanager
    def raised_as_ours(self, request: HTTPRequest) -> Iterator[None]:
        """Raise the client's exceptions within the block as errors of this library."""
        try:
            yield
        except TimeoutError as error:
            raise self.as_ours(error, request) from error
        except self.broken as error:
            raise self.as_ours(error, request) from error


def _reason(error: Exception) -> str:
    """The reason in one line; aiohttp has it in ``os_error`` or in ``message``."""
    system_error = getattr(error, "os_error", None)
    reason = getattr(system_error, "strerror", None) or getattr(error, "message", None)
    return " ".join(str(reason or error).split())
