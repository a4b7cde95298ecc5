"""An engine's configuration, resolved: which server, which key, which headers."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal
from urllib.parse import urlsplit

from llmengine.config.resolve import (
    ENVIRONMENT,
    Names,
    base_of,
    basic,
    basic_auth,
    checked_header,
    checked_key,
    locate,
    normal_endpoint,
    plain,
    root_of,
    with_query,
)
from llmengine.dialects.errors import refuses_reasoning
from llmengine.dialects.streaming import is_off
from llmengine.engine.requests import CallOptions
from llmengine.telemetry.pricing import tariff_of
from llmengine.types.errors import ConfigError
from llmengine.types.request import Capability
from llmengine.types.secrets import Secret, register, scrub, secret_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.config.engine import EngineConfig, Timeouts
    from llmengine.dialects.base import Dialect
    from llmengine.engine.requests import Options
    from llmengine.telemetry.pricing import Tariff
    from llmengine.types.errors import CallError
    from llmengine.types.request import ChatRequest

log = logging.getLogger("llmengine")


class Configured:
    """Who an engine is and where its server is found.

    A backend sets the class attributes: the dialect that its server speaks, what it can do, the
    address it has by default, and the environment variables that move the address (the first
    that is set wins) and hold the key. ``endpoint_keys`` names the key's variable for an address
    variable that does not go with ``key_env``. ``version_path`` is a route under the root that
    answers ``{"version": ...}``. ``trusts_schema`` says that its server is known to enforce JSON
    schemas, so that no probe is needed; ``schema_dialect`` is "openai_strict" where it takes no
    others. ``in_process`` says that there is no server: it answers in this process and takes no
    connection. ``default_concurrency`` is how many calls its server gets at once if the
    configuration does not say. ``queues_calls`` says that its server answers a few calls at a time
    and lets others wait: a call that ran out of time there is sent again, with fewer at once.
    """

    backend: ClassVar[str]
    default_endpoint: ClassVar[str | None] = None
    default_port: ClassVar[int | None] = None
    endpoint_env: ClassVar[tuple[str, ...]] = ()
    key_env: ClassVar[str | None] = None
    endpoint_keys: ClassVar[Mapping[str, str | None]] = {}
    version_path: ClassVar[str | None] = None
    capabilities: ClassVar[frozenset[Capability]]
    dialect: Dialect
    trusts_schema: bool = False
    schema_dialect: ClassVar[Literal["plain", "openai_strict"]] = "plain"
    in_process: ClassVar[bool] = False
    default_concurrency: ClassVar[int] = 64
    queues_calls: ClassVar[bool] = False
    _told = False  # that reasoning was left out
    _told_unread = False  # that a part of an answer cannot be read
    _refuses_reasoning = False  # the server said so of the model

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self._place = locate(config, self.variables(), [ENVIRONMENT])
        key = checked_key(self.name, config.resolve_key() or self._place.key)
        self._key = Secret(key) if key else None
        if self._key:
            register(self._key)
        for name, value in config.headers.items():
            checked_header(self.name, name, value)
        self.own_headers = self._own_headers()
        self.headers = self._headers()
        keys = {(k.lower(), v) for k, v in self.headers.items() if isinstance(v, Secret)}
        self.credential = hash(frozenset(keys))  # tells keys apart without holding one

    @classmethod
    def variables(cls) -> Names:
        """The variables that say where a server of this backend is and what opens it."""
        pairs = tuple((v, cls.endpoint_keys.get(v, cls.key_env)) for v in cls.endpoint_env)
        return Names(pairs, cls.default_endpoint, cls.key_env, cls.default_port)

    @property
    def name(self) -> str:
        """The engine's name in its configuration."""
        return self.config.name

    @property
    def model(self) -> str:
        """The model that answers."""
        return self.config.model

    @property
    def concurrency(self) -> int:
        """How many of its calls may be under way at once."""
        return self.config.max_concurrency or self.default_concurrency

    @property
    def window(self) -> int:
        """How many calls `iter_results` starts ahead of its reader."""
        return 2 * self.concurrency

    @property
    def clocks(self) -> Timeouts:
        """How long each phase of a call may take."""
        return self.config.timeout

    @property
    def endpoint(self) -> str:
        """The configured address in its normal form; raises ConfigError where there is none.

        It may hold a user, a password and a query string, so it is not for showing.
        """
        endpoint = self._place.endpoint
        if not endpoint:
            msg = (
                f"engine {self.name!r}: endpoint: backend {self.backend!r} has no default; "
                "give the server's address, such as http://127.0.0.1:8000/v1"
            )
            raise ConfigError(msg)
        return normal_endpoint(endpoint, default_port=self.default_port)

    @property
    def base_url(self) -> str:
        """Where an OpenAI SDK is to be pointed: the address with ``/v1``."""
        return base_of(plain(self.endpoint))

    @property
    def root_url(self) -> str:
        """The server's address without ``/v1``."""
        return root_of(plain(self.endpoint))

    @property
    def url(self) -> str:
        """Where this engine's own requests go, without the endpoint's query string."""
        return secret_address(self.base_url + self.dialect.path)

    @property
    def query(self) -> str:
        """The endpoint's query string, such as ``api-version=1``, which every request carries."""
        return urlsplit(self._place.endpoint or "").query

    def sent_to(self, url: str) -> str:
        """A URL of this server as requests are sent to it, with the endpoint's query string."""
        return with_query(url, self.query)

    @cached_property
    def tariff(self) -> Tariff:
        """How its calls are priced."""
        return tariff_of(self.config.price, self.url, self.model)

    @property
    def api_key(self) -> str | None:
        """The key in plain text, for handing it to another client of the same server."""
        return self._key

    @property
    def key_advice(self) -> str:
        """What a user can do about a refused key."""
        if self._key:
            return f"the key of engine {self.name!r} was sent and not accepted"
        if held := [v for v in self.variables().keys if ENVIRONMENT.get(v)]:
            return (
                f"{held[0]} is set, but for another address than that of engine {self.name!r}: "
                f"set its api_key_env to {held[0]} if the key is meant for it"
            )
        return f"engine {self.name!r} has no key: set api_key_env to the variable that holds it"

    def _asked(self, options: Options) -> CallOptions:
        """The call's options, without reasoning if the backend has none; one warning says so."""
        asked = CallOptions(**options)
        wanted = self.config.reasoning if asked.reasoning is None else asked.reasoning
        if Capability.REASONING in self.capabilities:
            return replace(asked, reasoning=wanted)
        if wanted and not is_off(wanted):
            self._tell_once(f"backend {self.backend!r}", wanted)
        # Where it is not wanted, no text of the answer is taken for it.
        return replace(asked, reasoning=False if is_off(wanted) else None)

    def tell_unread(self, warnings: tuple[str, ...]) -> None:
        """Log what the server sent beside an answer that cannot be read, once per engine."""
        if warnings and not self._told_unread:
            self._told_unread = True
            log.warning("engine %r: %s", self.name, "; ".join(warnings))

    def without_refused_reasoning(self, request: ChatRequest) -> ChatRequest:
        """The request, without reasoning if the server has refused it for this model."""
        if self._refuses_reasoning and request.reasoning is not None:
            return replace(request, reasoning=None)
        return request

    def notes_refused_reasoning(self, request: ChatRequest, error: CallError) -> bool:
        """Whether the refusal says that the model does not reason; from then on it is known."""
        if request.reasoning is None or error.final or not refuses_reasoning(error):
            return False
        self._refuses_reasoning = True
        if request.reasoning not in {False, "none"}:
            self._tell_once(f"model {self.model!r}", request.reasoning)
        return True

    def _tell_once(self, who: str, wanted: bool | str) -> None:
        if self._told:
            return
        self._told = True
        log.warning(
            "engine %r: %s has no reasoning; what was asked for (%r) is left out",
            self.name,
            who,
            wanted,
        )

    def _headers(self) -> dict[str, str]:
        key = {"Authorization": Secret(f"Bearer {self._key}")} if self._key else {}
        fixed = {"Content-Type": "application/json", "User-Agent": "llmengine"}
        return {**fixed, **key, **self.own_headers}

    def _own_headers(self) -> dict[str, str]:
        """The configured headers, with the user and password of the endpoint as one of them."""
        given = dict(self.config.headers)
        user = basic_auth(self._place.endpoint or "")
        if user is None:
            return given
        if self._key or any(name.lower() == "authorization" for name in given):
            raise ConfigError(
                f"engine {self.name!r}: endpoint: it holds a user and a password beside a key or "
                "an Authorization header, and a request can carry one of them; take one out"
            )
        return {"Authorization": basic(*user)} | given

    def __repr__(self) -> str:
        return scrub(f"<{type(self).__name__} {self.name!r} model={self.model!r}>")
