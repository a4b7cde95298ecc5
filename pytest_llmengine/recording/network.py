"""A guard for replay: this process may talk to itself and to nobody else.

The seam is Python's own audit event of every socket call. It is below every HTTP client, also one
that took its reference to ``socket`` long before, and nothing is replaced, so asyncio, aiohttp and
httpx work as they did. A hook cannot be taken off again (PEP 578), so `uninstall` switches it off.

Not seen: other processes, and libraries in C or Rust that call the system themselves (gRPC, c-ares,
uvloop, pyreqwest).
"""

from __future__ import annotations

import errno
import socket
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from llmengine.types.hosts import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class NetworkRefusedError(PermissionError):
    """A connection, a datagram or a name lookup would have left this machine."""


@dataclass(slots=True)
class Guard:
    """What is allowed beside loopback, and what was refused so far, in words.

    A run with something in ``refused`` has failed, also when the caller swallowed the error.
    """

    allowed: frozenset[str] = frozenset()
    refused: list[str] = field(default_factory=list)

    def check(self, action: str, host: object) -> None:
        """Raise NetworkRefusedError unless `host` is this machine or allowed."""
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "")
        if name in self.allowed or _is_here(name):
            return
        self.refused.append(f"{action} {name}")
        raise NetworkRefusedError(
            errno.EPERM,  # with it aiohttp shows the words as well
            f"replay: {action} {name} was refused, because nothing may leave this machine; aim the "
            "client at the engine's base_url, run the test live, or allow this host",
        )


def install(allow: Iterable[str] = ()) -> Guard:
    """Refuse everything but loopback, Unix sockets and the hosts in `allow`, until `uninstall`."""
    if _state.guard is not None:
        raise RuntimeError("the network guard is installed already")
    if not _state.hooked:
        sys.addaudithook(_hook)
        _state.hooked = True
    _state.guard = Guard(frozenset(allow))
    return _state.guard


def uninstall() -> None:
    """Allow everything again."""
    _state.guard = None


@contextmanager
def guarded(allow: Iterable[str] = ()) -> Iterator[Guard]:
    """`install` and `uninstall` around a block."""
    guard = install(allow)
    try:
        yield guard
    finally:
        uninstall()


@dataclass(slots=True)
class _State:
    guard: Guard | None = None
    hooked: bool = False


_state = _State()


def _is_here(name: str) -> bool:
    if name in {"", socket.gethostname()} or is_loopback(name):
        return True
    try:
        return ip_address(name).is_unspecified  # to listen on, or this machine when connected to
    except ValueError:
        return False


def _check_address(guard: Guard, action: str, sock: socket.socket, address: Any) -> None:
    if address is None or sock.family == getattr(socket, "AF_UNIX", None):
        return
    host = address[0] if isinstance(address, tuple) and address else address
    guard.check(action, host)


# Names of the events and their arguments: docs.python.org/3/library/audit_events.html
_CHECKS: dict[str, Callable[[Guard, Any], None]] = {
    "socket.connect": lambda guard, args: _check_address(guard, "a connection to", *args),
    "socket.sendto": lambda guard, args: _check_address(guard, "a datagram to", *args),
    "socket.sendmsg": lambda guard, args: _check_address(guard, "a datagram to", *args),
    "socket.getaddrinfo": lambda guard, args: guard.check("the lookup of", args[0]),
    "socket.gethostbyname": lambda guard, args: guard.check("the lookup of", args[0]),
    "socket.gethostbyaddr": lambda guard, args: guard.check("the lookup of", args[0]),
    "socket.getnameinfo": lambda guard, args: guard.check("the lookup of", args[0][0]),
}


def _hook(event: str, args: tuple[Any, ...]) -> None:
    guard = _state.guard
    if guard is not None and (check := _CHECKS.get(event)) is not None:
        check(guard, args)
