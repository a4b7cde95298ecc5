"""A guard for replays: it lets this process connect only to its own machine.

The guard listens to Python's audit events for socket calls. These are raised below every HTTP
client, also one that kept a reference to ``socket`` from before. Nothing is replaced, so asyncio,
aiohttp and httpx work as usual. An audit hook cannot be removed (PEP 578), so `uninstall` only
switches it off.

The guard does not see other processes, nor libraries in C or Rust that make system calls themselves
(gRPC, c-ares, uvloop, pyreqwest).
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
    """The hosts that are allowed besides loopback, and a description of every refused call.

    A run with an entry in ``refused`` has failed, even if the caller suppressed the error.
    """

    allowed: frozenset[str] = frozenset()
    refused: list[str] = field(default_factory=list)

    def check(self, action: str, host: object) -> None:
        """Raise NetworkRefusedError unless `host` is this machine or allowed."""
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "")
        if name in self.allowed or _is_this_machine(name):
            return
        self.refused.append(f"{action} {name}")
        raise NetworkRefusedError(
            errno.EPERM,  # with an errno, aiohttp shows the message too
            f"replay: {action} {name} was refused, because nothing may leave this machine; give "
            "the client the engine's base_url, run the test live, or allow this host",
        )


def install(allow: Iterable[str] = ()) -> Guard:
    """Allow only loopback, Unix sockets and the hosts in `allow`, until `uninstall` is called."""
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
    """Call `install` before a block and `uninstall` after it."""
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


def _is_this_machine(name: str) -> bool:
    if name in {"", socket.gethostname()} or is_loopback(name):
        return True
    try:
        return ip_address(name).is_unspecified  # such as 0.0.0.0, which is this machine
    except ValueError:
        return False


def _check_address(guard: Guard, action: str, sock: socket.socket, address: Any) -> None:
    if address is None or sock.family == getattr(socket, "AF_UNIX", None):
        return
    host = address[0] if isinstance(address, tuple) and address else address
    guard.check(action, host)


# The events and their arguments: https://docs.python.org/3/library/audit_events.html
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
