"""Host names: whether a host is this machine, and which clients a local server answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable


def is_loopback(host: str) -> bool:
    """Whether a host name or address is a loopback address of this machine."""
    if host == "localhost":
        return True
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


# Not after a name and a slash, where the numbers are the version of a program.
_IP = re.compile(r"(?<![\w.])(?<!\w/)\d{1,3}(?:\.\d{1,3}){3}(?![\w.])")
_NAME = re.compile(r"\b[\w.-]+\.(?:internal|svc|cluster\.local|localdomain)\b", re.IGNORECASE)


def internal_hosts(text: str) -> list[str]:
    """The addresses of private networks and the host names of clusters in a text."""
    return [ip for ip in _IP.findall(text) if _is_private(ip)] + _NAME.findall(text)


def _is_private(ip: str) -> bool:
    try:
        address = ip_address(ip)
    except ValueError:
        return False
    return address.is_private and not (address.is_loopback or address.is_unspecified)


@dataclass(frozen=True, slots=True)
class AllowedClients:
    """The clients that a local server answers: those that use its own names, but not web pages.

    A web page can let a name of its own point to 127.0.0.1 (DNS rebinding), and could then read
    the answers of a local server. The Host header shows this. ``hosts`` are additional allowed
    names, without a port. ``origins`` are the origins of web pages that may read answers (CORS);
    by default there are none. A server that listens on an address other than loopback is open to
    its network: it accepts every name, unless ``hosts`` is given.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    listens_on: str = "127.0.0.1"

    @classmethod
    def of(
        cls, hosts: Iterable[str] = (), origins: Iterable[str] = (), listens_on: str = "127.0.0.1"
    ) -> AllowedClients:
        """The allowed clients of a server; host names are case-insensitive."""
        names = frozenset(host.lower().rstrip(".") for host in hosts)
        return cls(names, frozenset(origins), listens_on)

    def refusal(self, host: str | None) -> str | None:
        """Why a request with that Host header is not answered; None if it is answered.

        A request without the header (HTTP/1.0) is answered, because browsers always send it.
        """
        if host is None or self._accepts(host):
            return None
        return (
            f"the Host header is {host!r}, but this server answers only for localhost and loopback "
            "addresses, to protect it from web pages; to accept the name, start the server with "
            "--allow-host"
        )

    def may_read(self, origin: str | None) -> bool:
        """Whether a web page of that origin may read answers."""
        return origin is not None and bool(self.origins & {origin, "*"})

    def _accepts(self, host: str) -> bool:
        if not self.hosts and not is_loopback(self.listens_on):
            return True
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        return name in self.hosts or is_loopback(name) or name.endswith(".localhost")
