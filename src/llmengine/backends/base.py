"""The base class of all backends, which hold what is specific to one kind of server."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic_core import to_json

from llmengine.backends.connection import Connection, URLs
from llmengine.backends.server_info import fingerprint_of
from llmengine.config.address import Address, Names, base_of, plain, root_of
from llmengine.structured.enforcement import EnforcementCache
from llmengine.telemetry.pricing import DEFAULT_CURRENCY, tariff_of
from llmengine.telemetry.usage import Who
from llmengine.transport.adaptive import CEILING
from llmengine.transport.limiter_config import AUTO
from llmengine.types.errors import ConfigError, InvalidRequestError
from llmengine.types.request import Capability
from llmengine.types.secrets import secret_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmengine.config.settings import EngineSettings, Timeouts
    from llmengine.dialects.base import Dialect
    from llmengine.telemetry.pricing import Tariff
    from llmengine.transport.base import HTTPRequest, Outgoing
    from llmengine.transport.limiter_config import LimiterState
    from llmengine.transport.loop import Background
    from llmengine.types.errors import CallError
    from llmengine.types.outputs import Fingerprint, LLMOutput, Tokens
    from llmengine.types.request import ChatRequest


log = logging.getLogger("llmengine")


class Backend:
    """How one engine reaches and uses one kind of server.

    An author of a backend writes a subclass that sets class attributes and overrides the methods
    in which the server differs. Methods that take a Connection are called on the background loop.

    - ``name`` is the backend's name in configurations.
    - ``dialect`` is the wire format of its chats, and ``capabilities`` is what it can do.
    - ``default_endpoint`` is its address if none is configured, and ``default_port`` the port of
      an address without one. ``endpoint_env`` are variables that set another address (the first
      one that is set wins), and ``key_env`` is the variable that holds the key. ``endpoint_keys``
      names the key's variable for an address variable that does not belong to ``key_env``.
    - ``version_path`` is a route under the root that answers ``{"version": ...}``.
    - ``trusts_schema`` says that the server is known to enforce JSON schemas, so that no probe is
      needed. ``schema_dialect`` is "openai_strict" if the server takes no other schemas.
    - ``ignored_features`` are features of JSON schemas (`llmengine.structured.features`) that the
      server is known to accept and not to enforce.
    - ``default_concurrency`` is how many calls the server gets at once if the configuration does
      not say. ``queues_calls`` says that the server answers a few calls at a time and lets the
      others wait: a call that ran out of time there is sent again, with fewer calls at once.
    - ``in_process`` says that the model runs in this process, without a server.
    """

    name: ClassVar[str]
    dialect: Dialect
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)
    default_endpoint: ClassVar[str | None] = None
    default_port: ClassVar[int | None] = None
    endpoint_env: ClassVar[tuple[str, ...]] = ()
    key_env: ClassVar[str | None] = None
    endpoint_keys: ClassVar[Mapping[str, str | None]] = {}
    version_path: ClassVar[str | None] = None
    trusts_schema: bool = False
    schema_dialect: ClassVar[Literal["plain", "openai_strict"]] = "plain"
    ignored_features: ClassVar[frozenset[str]] = frozenset()
    default_concurrency: ClassVar[int] = 64
    queues_calls: ClassVar[bool] = False
    in_process: ClassVar[bool] = False

    def __init__(self, config: EngineSettings) -> None:
        self.config = config
        self.address = Address(config, self.variables())
        self.enforcement = EnforcementCache()
        self.refuses_reasoning = False  # whether the server has refused reasoning
        self._warned: set[str] = set()
        self._urls: tuple[str, URLs] | None = None
        self._connection: Connection | None = None

    @classmethod
    def variables(cls) -> Names:
        """The variables that hold the address and the key of a server of this backend."""
        pairs = tuple((v, cls.endpoint_keys.get(v, cls.key_env)) for v in cls.endpoint_env)
        return Names(pairs, cls.default_endpoint, cls.key_env, cls.default_port)

    # ---- where the server is

    @property
    def endpoint(self) -> str:
        """The address of the server, which may hold a password and so must not be printed.

        Raises ConfigError if there is none. A backend that runs its own server starts it here.
        """
        return self.address.endpoint

    @property
    def server(self) -> Any:
        """The server that this process runs for the engine, if the backend has one.

        Raises ConfigError for a server that runs elsewhere.
        """
        raise ConfigError(
            f"engine {self.config.name!r}: backend {self.name!r} runs no server in this process"
        )

    @property
    def base_url(self) -> str:
        """The address for an OpenAI SDK, which ends in ``/v1``."""
        return base_of(plain(self.endpoint))

    @property
    def root_url(self) -> str:
        """The server's address without ``/v1``."""
        return root_of(plain(self.endpoint))

    @property
    def url(self) -> str:
        """The URL of the chats, without the endpoint's query string."""
        return secret_address(self.base_url + self.dialect.path)

    def urls(self) -> URLs:
        """The URLs of the server; not called on the loop, because it may start a server."""
        endpoint = self.endpoint
        if self._urls is None or self._urls[0] != endpoint:  # its own server was restarted
            self._urls = endpoint, URLs(self.url, self.base_url, self.root_url)
        return self._urls[1]

    def connect(self, loop: Background, urls: URLs) -> Connection:
        """The connection to the server at these URLs; called on the loop."""
        connection = self._connection
        # Each process has its own loop, so a forked child makes its own connection.
        if connection is None or connection.loop is not loop or connection.urls != urls:
            connection = self._connection = Connection(
                loop,
                self.config,
                self.address,
                urls,
                owner=self,
                clocks=self.clocks,
                ready=None if type(self).ready is Backend.ready else self.ready,
                in_process=self.in_process,
                queues_calls=self.queues_calls,
            )
        return connection

    # ---- concurrency, time limits and price

    @property
    def concurrency(self) -> int:
        """How many calls of this engine may be under way at once.

        With "auto" it is the largest number; how many of the calls are sent is then decided while
        they run.
        """
        number = self.config.max_concurrency
        if number is None and self.config.limiter is not None:
            number = self.config.limiter.max_concurrency  # it replaces the default
        if number is None:
            return self.default_concurrency
        return CEILING if number == AUTO else number

    @property
    def present_limit(self) -> float:
        """How many calls of this engine may be under way now; at most ``concurrency``."""
        connection = self._connection
        return (
            self.concurrency
            if connection is None
            else min(self.concurrency, connection.chats.limit)
        )

    def limits(self) -> LimiterState | None:
        """The state of the engine's limits; None if this process has not sent a request yet."""
        connection = self._connection
        return None if connection is None else connection.chats.state()

    @property
    def window(self) -> int:
        """How many calls `Engine.iter_results` starts ahead of its reader."""
        return 2 * self.concurrency

    @property
    def clocks(self) -> Timeouts:
        """How long each phase of a call may take."""
        return self.config.timeout

    @cached_property
    def tariff(self) -> Tariff | None:
        """How the calls of this engine are priced; None if that is unknown."""
        return tariff_of(self.config.price, self.url, self.config.model)

    @cached_property
    def account(self) -> Who:
        """The key of the engine's account, in which the usage of all its calls is summed."""
        currency = self.tariff.currency if self.tariff is not None else DEFAULT_CURRENCY
        return Who(self.config.name, self.config.model, currency)

    # ---- what a backend may do differently

    async def ready(self, loop: Background) -> None:
        """Wait until the server is up; the wait does not count against time limits.

        By default the server is assumed to be running. Called before each attempt.
        """

    def outgoing(self, connection: Connection, request: ChatRequest) -> HTTPRequest | Outgoing:
        """The request, encoded and ready to send.

        Raises InvalidRequestError if the request cannot be expressed in the server's API.
        """
        if request.reasoning is not None and Capability.REASONING not in self.capabilities:
            request = replace(request, reasoning=None)
        return connection.chat(to_json(self.dialect.encode(request)))

    async def check_answer(
        self, connection: Connection, request: ChatRequest, output: LLMOutput
    ) -> None:
        """Raise a CallError if other information from the server shows that the answer is wrong.

        Called after each answer that could be read.
        """

    async def explain(self, connection: Connection, error: CallError) -> None:
        """Add advice to an error, from what the server reports."""

    async def identify(self, connection: Connection) -> Fingerprint:
        """The server's version, its served model, and what it reports about them."""
        return await fingerprint_of(connection, self.version_path)

    async def tokenize(
        self,
        connection: Connection,  # noqa: ARG002 - for backends that ask
        prompt: str | ChatRequest,  # noqa: ARG002
    ) -> Tokens:
        """The tokens of a text as it is, or of a chat with the model's template.

        Raises InvalidRequestError if the server has no route for this.
        """
        raise self._no_tokenizer()

    async def detokenize(
        self,
        connection: Connection,  # noqa: ARG002 - for backends that ask
        token_ids: Iterable[int],  # noqa: ARG002
    ) -> str:
        """The text of token ids; InvalidRequestError if the server has no route for this."""
        raise self._no_tokenizer()

    def close(self) -> None:
        """Release what the backend holds, and forget what it learned about its server."""
        self.enforcement.forget()

    # ---- for all backends

    def warn_once(self, subject: str, message: str, *values: object) -> None:
        """Log a warning, but only the first one of this engine on that subject."""
        if subject not in self._warned:
            self._warned.add(subject)
            log.warning(f"engine %r: {message}", self.config.name, *values)  # noqa: G004 - fixed

    def _no_tokenizer(self) -> InvalidRequestError:
        return InvalidRequestError(
            f"engine {self.config.name!r}: backend {self.name!r} cannot tokenize; vllm_api can"
        )
