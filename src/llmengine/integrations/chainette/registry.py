"""Puts our engines into Chainette's registry; this module imports Chainette."""

from __future__ import annotations

from typing import TYPE_CHECKING

import chainette
import chainette.engine
from chainette.engine import registry as chainette_registry
from chainette.engine.engine_pool import ENGINE_POOL
from chainette.utils.events import EngineStarted, publish

from llmengine.integrations.chainette.client import ChainetteClient
from llmengine.integrations.chainette.engines import Registration, registration
from llmengine.integrations.chainette.skipped import drop_skipped_items
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.engine.engine import EngineConfig


class RegisteredEngine(chainette_registry.EngineConfig):  # type: ignore[misc]  # Chainette has no types
    """An entry in Chainette's registry that uses one of our engines.

    The entry holds no key. The key is only in our configuration, which never prints it.
    """

    def __init__(self, registration: Registration) -> None:
        config = registration.config
        super().__init__(
            name=registration.name,
            model=config.model,
            backend=registration.backend,
            endpoint=registration.endpoint,
            enable_reasoning=bool(config.reasoning),
            **registration.server,
        )
        self._registration = registration
        self._engine: ChainetteClient | None = None

    @property
    def engine(self) -> ChainetteClient:
        """The client, made at the first access and again after a release."""
        if self._engine is None:
            self._engine = ChainetteClient(self._registration.resolved(self.endpoint).engine)
            publish(EngineStarted(engine_name=self.name, backend=self.backend))
        return self._engine

    def release_engine(self) -> None:
        """Close the client, and stop the server if Chainette started it."""
        client = self._engine
        super().release_engine()
        if client is not None:
            client.close()


class _Override:
    """The engine that replaces every registered one, if `install` was called with one."""

    config: EngineConfig | None = None


def register_engine(name: str | EngineConfig, **fields: object) -> RegisteredEngine:
    """Put one of our engines into Chainette's registry; see the function of the package."""
    if _Override.config is not None:
        made = Registration.of(name if isinstance(name, str) else name.name, _Override.config)
    elif isinstance(name, str):
        made = registration(name, fields)
    elif fields:
        msg = f"engine {name.name!r}: {', '.join(fields)}: put these fields into the EngineConfig"
        raise ConfigError(msg)
    else:
        made = Registration.of(name.name, name)
    entry = RegisteredEngine(made)
    earlier = chainette_registry._REGISTRY.get(entry.name)  # noqa: SLF001 - it cannot replace
    chainette_registry._REGISTRY[entry.name] = entry  # noqa: SLF001
    if earlier is not None:
        ENGINE_POOL.pop(entry.name)  # otherwise the pool would keep returning the earlier client
        earlier.release_engine()
    drop_skipped_items()
    return entry


def install(
    register: Callable[..., object], load: Callable[..., object], engine: EngineConfig | None
) -> None:
    """Put our functions in the modules from which Chainette's own are imported."""
    _Override.config = engine
    for module in (chainette, chainette.engine, chainette_registry):
        module.register_engine = register
        module.load_engines_from_yaml = load
