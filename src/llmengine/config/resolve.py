"""Header fields from a configuration: what cannot be sent is refused, and never shown.

Addresses as people write them, in one normal form.

Where a server is and which key it is given, as far as variables say so.

A key belongs to the address that stands beside it: one from the environment is never sent to an
address from a file, since whoever wrote a ``.env`` must not be able to draw out the keys of those
who run a program in its folder. A key without an address belongs to the backend's default.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from llmengine.types.errors import ConfigError, detached
from llmengine.types.secrets import Secret, conceal, is_secret_name, learn, register, secret_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from llmengine.config.engine import EngineConfig


_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def checked_key(engine: str, key: str | None) -> str | None:
    """The key without blanks around it, which a file or a variable may have left there.

    Raises ConfigError for one that no header can carry: a line break in it would begin a header
    of its own.
    """
    key = (key or "").strip()
    if _CONTROL.search(key) or not key.isascii():
        raise ConfigError(
            f"engine {engine!r}: api_key: it holds a line break or another character that no key "
            "has; look at where it comes from"
        )
    return key or None


def checked_header(engine: str, name: str, value: str) -> None:
    """Raise ConfigError for a header that cannot be sent as one."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"engine {engine!r}: headers: {name!r} is not the name of a header")
    if _CONTROL.search(value):
        raise ConfigError(
            f"engine {engine!r}: headers: the value of {name!r} holds a line break or another "
            "control character; write it in one line"
        )


def basic(user: str, password: str) -> Secret:
    """The value of Authorization for a user and a password, both kept out of every text."""
    value = b64encode(f"{user}:{password}".encode()).decode()
    for secret in (password, value):
        register(secret)
    return Secret(f"Basic {value}")


def normal_endpoint(endpoint: str, *, default_port: int | None = None) -> str:
    """An endpoint with a scheme and without a trailing slash; user and query string are kept.

    OLLAMA_HOST may lack scheme, host and port, and may be the wildcard address that a server binds
    to but no client can call. Raises ConfigError for what is not an address. A password in it is
    not shown by the repr of the result, and not by the error.
    """
    endpoint = secret_address(endpoint)
    try:
        return secret_address(_normal(endpoint, default_port))
    except ConfigError as error:
        wrong = detached(error)
    raise wrong  # from here, because the frames below hold the address as plain text


def _normal(endpoint: str, default_port: int | None) -> str:
    text = f"127.0.0.1{endpoint}" if endpoint.startswith(":") else endpoint
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        if "@" in endpoint:  # it quotes what it takes for a port, which may be of a password
            raise ConfigError(_no_address(endpoint)) from None
        msg = f"endpoint {endpoint!r}: {error}; write it like http://host:port"
        raise ConfigError(msg) from error
    if parts.scheme not in {"http", "https"} or not host:
        raise ConfigError(_no_address(endpoint))
    if "://" not in endpoint and port is None:
        port = default_port
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound here
    where = f"[{host}]" if ":" in host else host
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    netloc = f"{user}{where}" if port is None else f"{user}{where}:{port}"
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), parts.query, ""))


def plain(endpoint: str) -> str:
    """An endpoint without user, password and query string, as it may be shown and extended."""
    parts = urlsplit(endpoint)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def with_query(url: str, query: str) -> str:
    """A URL with a query string that goes after its own."""
    if not query:
        return url
    return f"{url}&{query}" if "?" in url else f"{url}?{query}"


def basic_auth(endpoint: str) -> tuple[str, str] | None:
    """User and password of an endpoint, None where it has none."""
    parts = urlsplit(endpoint)
    if "@" not in parts.netloc:
        return None
    return unquote(parts.username or ""), unquote(parts.password or "")


def base_of(endpoint: str) -> str:
    """The OpenAI-style base URL: ``/v1`` is added where the endpoint has no path of its own."""
    parts = urlsplit(endpoint)
    return endpoint if parts.path else secret_address(urlunsplit(parts._replace(path="/v1")))


def root_of(endpoint: str) -> str:
    """The server's root: the endpoint without ``/v1`` at the end of its path."""
    parts = urlsplit(endpoint)
    return secret_address(urlunsplit(parts._replace(path=parts.path.removesuffix("/v1"))))


def _no_address(endpoint: str) -> str:
    """The message about an endpoint, without what stands where a user and password would."""
    scheme, mark, rest = endpoint.rpartition("://")
    _, at, host = rest.rpartition("@")
    encode = " and percent-encode the user and the password in it" if at else ""
    shown = f"{scheme}{mark}{host.partition('?')[0]}"
    return f"endpoint {shown!r} is no HTTP address; write it like http://host:port{encode}"


_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class EnvSource:
    """Variables from one place; ``name`` is what messages call it. An empty value is none."""

    name: str
    values: Mapping[str, str] = field(repr=False)

    def get(self, variable: str | None) -> str | None:
        """The value of a variable, None if it is not set; a key in it is not shown by repr."""
        value = self.values.get(variable) if variable else None
        if not variable or not value:
            return None
        if is_secret_name(variable, "pair"):
            learn(value)
            return Secret(value)
        return conceal(value, variable)  # type: ignore[no-any-return]  # text stays text


ENVIRONMENT = EnvSource("the environment", os.environ)


@dataclass(frozen=True, slots=True)
class Names:
    """The variables of one server, and the address that it has without them.

    ``pairs`` are variables of an address, the first that is set wins, each with that of its key.
    ``key`` is the variable of the key that goes to the default address.
    """

    pairs: tuple[tuple[str, str | None], ...] = ()
    default: str | None = None
    key: str | None = None
    port: int | None = None

    @property
    def keys(self) -> list[str]:
        """Every variable that can hold a key."""
        return [name for name in (self.key, *(key for _, key in self.pairs)) if name]


@dataclass(frozen=True, slots=True)
class Location:
    """An address as it was written, the key for it, and from which source and variable."""

    endpoint: str | None
    key: str | None = field(default=None, repr=False)
    source: EnvSource | None = None
    key_variable: str | None = None


def locate(config: EngineConfig, names: Names, sources: Sequence[EnvSource]) -> Location:
    """Where the engine's server is, and the key that the sources hold for exactly that server.

    For one variable an earlier source goes over a later one. The key in the configuration itself
    is none of this function's business.
    """
    known = list(_known(names, sources))
    chosen = Location(config.endpoint) if config.endpoint else known[0]
    if chosen.key is not None or chosen.endpoint is None:
        return chosen
    there = _origin(normal_endpoint(chosen.endpoint, default_port=names.port))
    key = next((p.key for p in known if p.key and _is_at(p, there, names.port)), None)
    return Location(chosen.endpoint, key, chosen.source, chosen.key_variable)


def _known(names: Names, sources: Sequence[EnvSource]) -> Iterator[Location]:
    for address, key in names.pairs:
        for source in sources:
            if endpoint := source.get(address):
                yield Location(endpoint, source.get(key), source, key)
    for source in sources:
        beside = [source.get(address) for address, key in names.pairs if key == names.key]
        if (found := source.get(names.key)) and not any(beside):
            yield Location(names.default, found)
    yield Location(names.default)


def _is_at(place: Location, origin: tuple[str, str, int | None], port: int | None) -> bool:
    try:
        return _origin(normal_endpoint(place.endpoint or "", default_port=port)) == origin
    except ConfigError:  # an address that this engine does not use may be wrong
        return False


def _origin(endpoint: str) -> tuple[str, str, int | None]:
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    port = parts.port or _PORTS.get(parts.scheme)
    return parts.scheme, "localhost" if host in _LOOPBACK else host, port
