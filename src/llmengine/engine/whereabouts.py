"""Where a server is and which key it is given, as far as variables say so.

A key belongs to the address that stands beside it: one from the environment is never sent to an
address from a file, since whoever wrote a ``.env`` must not be able to draw out the keys of those
who run a program in its folder. A key without an address belongs to the backend's default.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmengine.engine.addresses import normal_endpoint
from llmengine.types.errors import ConfigError
from llmengine.types.secrets import Secret, conceal, is_secret_name, learn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from llmengine.config.engine_config import EngineConfig

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Source:
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


ENVIRONMENT = Source("the environment", os.environ)


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
class Place:
    """An address as it was written, the key for it, and from which source and variable."""

    endpoint: str | None
    key: str | None = field(default=None, repr=False)
    source: Source | None = None
    key_variable: str | None = None


def locate(config: EngineConfig, names: Names, sources: Sequence[Source]) -> Place:
    """Where the engine's server is, and the key that the sources hold for exactly that server.

    For one variable an earlier source goes over a later one. The key in the configuration itself
    is none of this function's business.
    """
    known = list(_known(names, sources))
    chosen = Place(config.endpoint) if config.endpoint else known[0]
    if chosen.key is not None or chosen.endpoint is None:
        return chosen
    there = _origin(normal_endpoint(chosen.endpoint, default_port=names.port))
    key = next((p.key for p in known if p.key and _is_at(p, there, names.port)), None)
    return Place(chosen.endpoint, key, chosen.source, chosen.key_variable)


def _known(names: Names, sources: Sequence[Source]) -> Iterator[Place]:
    for address, key in names.pairs:
        for source in sources:
            if endpoint := source.get(address):
                yield Place(endpoint, source.get(key), source, key)
    for source in sources:
        beside = [source.get(address) for address, key in names.pairs if key == names.key]
        if (found := source.get(names.key)) and not any(beside):
            yield Place(names.default, found)
    yield Place(names.default)


def _is_at(place: Place, origin: tuple[str, str, int | None], port: int | None) -> bool:
    try:
        return _origin(normal_endpoint(place.endpoint or "", default_port=port)) == origin
    except ConfigError:  # an address that this engine does not use may be wrong
        return False


def _origin(endpoint: str) -> tuple[str, str, int | None]:
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    port = parts.port or _PORTS.get(parts.scheme)
    return parts.scheme, "localhost" if host in _LOOPBACK else host, port
