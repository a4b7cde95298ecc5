"""Names of transports and their factories, which are imported when they are first used."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from llmengine.transport.errors import ClientErrors
from llmengine.types.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from llmengine.transport.base import HTTPReply, HTTPRequest, HTTPStream, Transport

    TransportFactory = Callable[[], Transport]


GROUP = "llmengine.transports"
AUTO = "auto"  # asyncio, except while aiohttp is traced or an HTTP client is mocked

# {transport: module and class}. Other packages add transports through the entry-point group above.
BUILT_IN = {
    "asyncio": "llmengine.transport.asyncio_transport:AsyncioTransport",
    "aiohttp": "llmengine.transport.aiohttp_transport:AiohttpTransport",
    "httpx": "llmengine.transport.httpx_transport:HttpxTransport",
}
_registered: dict[str, _OwnFactory] = {}
_ERRORS = ClientErrors()  # the built-in errors of sockets and clocks


def transports() -> list[str]:
    """The names of all transports: built in, registered, and those of installed packages."""
    installed = (entry.name for entry in entry_points(group=GROUP))
    return sorted({AUTO, *BUILT_IN, *_registered, *installed})


def known_transport(name: str) -> str:
    """The name itself; raises InvalidFieldError, which lists the known names, if it is unknown."""
    if name in {AUTO, *BUILT_IN, *_registered} or name in (known := transports()):
        return name
    near = get_close_matches(name, known, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    raise InvalidFieldError(f"unknown transport {name!r}; {meant}known are {', '.join(known)}")


def register_transports(factories: Mapping[str, TransportFactory]) -> None:
    """Add transports of this process by name, such as those of a project's ``conftest.py``.

    Raises InvalidFieldError if a name is taken, or if a factory cannot be called.
    """
    known = transports()
    for name, factory in factories.items():
        if name in known:
            raise InvalidFieldError(f"there is a transport {name!r} already; use another name")
        if not callable(factory):
            raise InvalidFieldError(
                f"transport {name!r} is {factory!r}; give a class or a function without arguments "
                "that returns a Transport"
            )
    _registered.update({name: _OwnFactory(factory) for name, factory in factories.items()})


def unregister_transports(names: Iterable[str]) -> None:
    """Remove transports that were added by `register_transports`."""
    for name in names:
        _registered.pop(name, None)


def transport_factory(name: str) -> TransportFactory:
    """The factory of a transport, the same object each time; call it on the loop that will use it.

    Raises InvalidFieldError if the name is unknown.
    """
    return _registered[name] if name in _registered else _loaded(name)


@cache
def _loaded(name: str) -> TransportFactory:
    known_transport(name)
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        built_in: TransportFactory = getattr(import_module(module), attribute)
        return built_in
    (entry, *_) = entry_points(group=GROUP, name=name)
    return _OwnFactory(entry.load())


@dataclass(frozen=True, eq=False, slots=True)
class _OwnFactory:
    """Makes transports of a project or of another package."""

    factory: TransportFactory

    def __call__(self) -> Transport:
        return _OwnTransport(self.factory())


class _OwnTransport:
    """A transport of a project or of another package; its OSErrors are raised as ours."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def fetch(self, request: HTTPRequest) -> HTTPReply:
        """Send the request and read the whole answer within its clocks."""
        with _ERRORS.raised_as_ours(request):
            return await self._transport.fetch(request)

    @asynccontextmanager
    async def stream(self, request: HTTPRequest) -> AsyncIterator[HTTPStream]:
        """Send the request; only the connect clock is checked here, the reader checks the rest."""
        async with AsyncExitStack() as stack:
            with _ERRORS.raised_as_ours(request):
                answer = await stack.enter_async_context(self._transport.stream(request))
            yield replace(answer, chunks=_chunks(answer, request))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()


async def _chunks(answer: HTTPStream, request: HTTPRequest) -> AsyncIterator[bytes]:
    with _ERRORS.raised_as_ours(request):
        async for chunk in answer.chunks:
            yield chunk
