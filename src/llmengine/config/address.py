"""The address of a server, and the key and the headers that it gets, from a configuration.

A key belongs to the address that is configured next to it. A key from the environment is never
sent to an address from a file. Otherwise the author of a ``.env`` file could steal the keys of
users who run a program in its folder. A key without an address belongs to the default address
of the backend.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from llmengine.types.errors import ConfigError, detached
from llmengine.types.secrets import Secret, conceal, is_secret_name, learn, register, secret_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from llmengine.config.settings import EngineSettings


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def checked_key(engine: str, key: str | None) -> str | None:
    """The key without the blanks around it, which often come from a file or a variable.

    Raises ConfigError for a key that cannot be sent in a header; a line break in it would begin
    another header.
    """
    key = (key or "").strip()
    if _CONTROL.search(key) or not key.isascii():
        raise ConfigError(
            f"engine {engine!r}: api_key: it holds a line break or another character that no key "
            "has; check where the key comes from"
        )
    return key or None


def checked_header(where: str, name: str, value: str) -> None:
    """Raise ConfigError for a header that cannot be sent; the message does not show its value."""
    if not _HEADER_NAME.fullmatch(name):
        raise ConfigError(f"{where}: {name!r} is not the name of a header")
    if _CONTROL.search(value):
        raise ConfigError(
            f"{where}: the value of {name!r} holds a line break or another "
            "control character; write it in one line"
        )


def merged_headers(*layers: Mapping[str, str]) -> dict[str, str]:
    """The headers of all layers; a later layer replaces a header whatever the case of its name."""
    merged: dict[str, tuple[str, str]] = {}
    for layer in layers:
        merged |= {name.lower(): (name, value) for name, value in layer.items()}
    return dict(merged.values())


def basic(user: str, password: str) -> Secret:
    """The value of Authorization for a user and a password; it is registered as a secret."""
    value = b64encode(f"{user}:{password}".encode()).decode()
    for secret in (password, value):
        register(secret)
    return Secret(f"Basic {value}")


def normal_endpoint(endpoint: str, *, default_port: int | None = None) -> str:
    """An endpoint with a scheme and without a trailing slash; user and query string are kept.

    OLLAMA_HOST may lack scheme, host and port. It may also be the wildcard address, to which a
    server can bind but a client cannot connect. Raises ConfigError if the text is not an address.
    Neither the repr of the result nor the error shows a password.
    """
    endpoint = secret_address(endpoint)
    try:
        return secret_address(_normal(endpoint, default_port))
    except ConfigError as error:
        wrong = detached(error)
    raise wrong  # raised here, because the inner frames hold the address as plain text


def _normal(endpoint: str, default_port: int | None) -> str:
    text = f"127.0.0.1{endpoint}" if endpoint.startswith(":") else endpoint
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        if "@" in endpoint:  # the error quotes the port, which may be a part of a password
            raise ConfigError(_not_an_address(endpoint)) from None
        msg = f"endpoint {endpoint!r}: {error}; write it like http://host:port"
        raise ConfigError(msg) from error
    if parts.scheme not in {"http", "https"} or not host:
        raise ConfigError(_not_an_address(endpoint))
    if "://" not in endpoint and port is None:
        port = default_port
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound here
    where = f"[{host}]" if ":" in host else host
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    netloc = f"{user}{where}" if port is None else f"{user}{where}:{port}"
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), parts.query, ""))


def plain(endpoint: str) -> str:
    """An endpoint without user, password and query string, which may be printed and extended."""
    parts = urlsplit(endpoint)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def with_query(url: str, query: str) -> str:
    """A URL with a query string added after its own query string."""
    if not query:
        return url
    return f"{url}&{query}" if "?" in url else f"{url}?{query}"


def basic_auth(endpoint: str) -> tuple[str, str] | None:
    """User and password of an endpoint; None if it has none."""
    parts = urlsplit(endpoint)
    if "@" not in parts.netloc:
        return None
    return unquote(parts.username or ""), unquote(parts.password or "")


def base_of(endpoint: str) -> str:
    """The OpenAI-style base URL: ``/v1`` is added if the endpoint has no path of its own."""
    parts = urlsplit(endpoint)
    return endpoint if parts.path else secret_address(urlunsplit(parts._replace(path="/v1")))


def root_of(endpoint: str) -> str:
    """The server's root: the endpoint without ``/v1`` at the end of its path."""
    parts = urlsplit(endpoint)
    return secret_address(urlunsplit(parts._replace(path=parts.path.removesuffix("/v1"))))


def _not_an_address(endpoint: str) -> str:
    """The message about an endpoint, without the part that may be a user and a password."""
    scheme, mark, rest = endpoint.rpartition("://")
    _, at, host = rest.rpartition("@")
    encode = " and percent-encode the user and the password in it" if at else ""
    printable = f"{scheme}{mark}{host.partition('?')[0]}"
    return f"endpoint {printable!r} is not an HTTP address; write it like http://host:port{encode}"


_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class EnvSource:
    """Variables from one source; messages call it ``name``. An empty value counts as not set."""

    name: str
    values: Mapping[str, str] = field(repr=False)

    def get(self, variable: str | None) -> str | None:
        """The value of a variable; None if it is not set. Its repr does not show a key."""
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
    """The variables for one server, and its default address.

    ``pairs`` are variables that hold an address, each with the variable of its key; the first one
    that is set is used. ``default`` is the address if none is set, ``key`` is the variable of the
    key for that address, and ``port`` is the port of an address without one.
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
    """An address as it was written, the key for it, and the source and variable of both."""

    endpoint: str | None
    key: str | None = field(default=None, repr=False)
    source: EnvSource | None = None
    key_variable: str | None = None


def locate(config: EngineSettings, names: Names, sources: Sequence[EnvSource]) -> Location:
    """The address of the engine's server, and the key that the sources hold for that server.

    For the same variable, an earlier source has priority over a later one. The key in the
    configuration itself is not used here.
    """
    known = list(_locations(names, sources))
    chosen = Location(config.endpoint) if config.endpoint else known[0]
    if chosen.key is not None or chosen.endpoint is None:
        return chosen
    origin = _origin(normal_endpoint(chosen.endpoint, default_port=names.port))
    key = next((p.key for p in known if p.key and _has_origin(p, origin, names.port)), None)
    return Location(chosen.endpoint, key, chosen.source, chosen.key_variable)


def _locations(names: Names, sources: Sequence[EnvSource]) -> Iterator[Location]:
    for address, key in names.pairs:
        for source in sources:
            if endpoint := source.get(address):
                yield Location(endpoint, source.get(key), source, key)
    for source in sources:
        addresses = [source.get(address) for address, key in names.pairs if key == names.key]
        if (found := source.get(names.key)) and not any(addresses):
            yield Location(names.default, found)
    yield Location(names.default)


def _has_origin(place: Location, origin: tuple[str, str, int | None], port: int | None) -> bool:
    try:
        return _origin(normal_endpoint(place.endpoint or "", default_port=port)) == origin
    except ConfigError:  # an invalid address that this engine does not use
        return False


def _origin(endpoint: str) -> tuple[str, str, int | None]:
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    port = parts.port or _PORTS.get(parts.scheme)
    return parts.scheme, "localhost" if host in _LOOPBACK else host, port


class Address:
    """Where an engine's server is, and the key and the headers that its requests carry.

    ``key`` is None if there is none. ``own_headers`` are the configured headers, with the user and
    the password of the endpoint as one of them; ``headers`` are all headers of a request.
    ``credential`` differs if the keys differ, but holds no key. Raises ConfigError for a key or a
    header that cannot be sent.
    """

    def __init__(self, config: EngineSettings, names: Names) -> None:
        self._engine = config.name
        self._backend = config.backend
        self._names = names
        self._location = locate(config, names, [ENVIRONMENT])
        key = checked_key(config.name, config.resolve_key() or self._location.key)
        self.key = Secret(key) if key else None
        if self.key:
            register(self.key)
        for name, value in config.headers.items():
            checked_header(f"engine {config.name!r}: headers", name, value)
        self.own_headers = self._own_headers(config.headers)
        bearer = {"Authorization": Secret(f"Bearer {self.key}")} if self.key else {}
        fixed = {"Content-Type": "application/json", "User-Agent": "llmengine"}
        self.headers: Mapping[str, str] = {**fixed, **bearer, **self.own_headers}
        secrets = {(k.lower(), v) for k, v in self.headers.items() if isinstance(v, Secret)}
        self.credential = hash(frozenset(secrets))
        self.query = urlsplit(self._location.endpoint or "").query

    @cached_property
    def endpoint(self) -> str:
        """The address in its normal form; raises ConfigError if there is none.

        It may hold a user, a password and a query string, so it must not be printed.
        """
        if not self._location.endpoint:
            msg = (
                f"engine {self._engine!r}: endpoint: backend {self._backend!r} has no default; "
                "give the server's address, such as http://127.0.0.1:8000/v1"
            )
            raise ConfigError(msg)
        return normal_endpoint(self._location.endpoint, default_port=self._names.port)

    def with_query(self, url: str) -> str:
        """A URL of this server with the endpoint's query string, which every request carries."""
        return with_query(url, self.query)

    def add_headers(self, headers: Mapping[str, str]) -> None:
        """Add headers to every request, except those that are configured."""
        taken = {name.lower() for name in self.own_headers}
        added = {name: value for name, value in headers.items() if name.lower() not in taken}
        self.headers = {**self.headers, **added}

    @property
    def key_advice(self) -> str:
        """What the user can do if the server refuses the key."""
        if self.key:
            return f"the key of engine {self._engine!r} was sent and not accepted"
        if held := [name for name in self._names.keys if ENVIRONMENT.get(name)]:
            return (
                f"{held[0]} is set, but for another address than that of engine {self._engine!r}: "
                f"set its api_key_env to {held[0]} if the key is meant for it"
            )
        return f"engine {self._engine!r} has no key: set api_key_env to the variable that holds it"

    def _own_headers(self, configured: Mapping[str, str]) -> dict[str, str]:
        given = dict(configured)
        user = basic_auth(self._location.endpoint or "")
        if user is None:
            return given
        if self.key or any(name.lower() == "authorization" for name in given):
            raise ConfigError(
                f"engine {self._engine!r}: endpoint: it holds a user and a password, but there "
                "is also a key or an Authorization header; a request can carry only one of them, "
                "so remove the other"
            )
        return {"Authorization": basic(*user)} | given
