"""The backend ``openai``: OpenAI's own API, through OpenAI's own SDK."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from llmengine.backends.base import Backend
from llmengine.dialects.openai_chat import OpenAIChat
from llmengine.dialects.openai_responses import OpenAIResponses
from llmengine.openai_sdk import (
    SDKRequest,
    http_client,
    load_sdk,
    make_client,
    make_connections,
    sdk_headers,
    without_key,
)
from llmengine.transport.loop import mocked_clients
from llmengine.transport.mocks import refuse_unmocked
from llmengine.types.errors import ConfigError, InvalidRequestError

if TYPE_CHECKING:
    from llmengine.backends.connection import Connection
    from llmengine.config.settings import EngineSettings
    from llmengine.dialects.base import Dialect
    from llmengine.transport.loop import Background
    from llmengine.types.request import ChatRequest


_DIALECTS: dict[str, Dialect] = {
    "responses": OpenAIResponses(
        advice="leave it out, or use the chat API (options: {api: chat}), which may have it"
    ),
    "chat": OpenAIChat(max_tokens_field="max_completion_tokens"),
}


class OpenAI(Backend):
    """OpenAI through the official SDK (extra ``openai``, 2.x and 3.x).

    It uses the responses API, or chat completions with ``options: {api: chat}``.
    ``OPENAI_BASE_URL`` sets another default address. ``OPENAI_API_KEY`` is sent to the default
    address only. It is sent to another ``endpoint`` only if ``api_key_env`` names it.
    """

    name = "openai"
    default_endpoint = "https://api.openai.com/v1"
    endpoint_env = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
    key_env = "OPENAI_API_KEY"
    schema_dialect = "openai_strict"

    def __init__(self, config: EngineSettings) -> None:
        super().__init__(config)
        _refuse_transport(config)
        self._api = _api_of(config)
        self.dialect = _DIALECTS[self._api]
        self.trusts_schema = self.endpoint == self.default_endpoint
        self._sdk = load_sdk()
        self._sdk_headers = sdk_headers(self.address.key, self.address.own_headers)
        # By loop. Each process has its own loop, so a forked child makes its own clients.
        self._clients: WeakKeyDictionary[Background, Any] = WeakKeyDictionary()

    def outgoing(self, connection: Connection, request: ChatRequest) -> SDKRequest:
        """The request, to be sent through the SDK; raises NotMockedError if it passes a mock."""
        refuse_unmocked(http_client(self._sdk), mocked_clients(), connection.urls.chat)
        client, clocks = self._client(connection.loop), self.config.timeout
        return SDKRequest(
            client.responses if self._api == "responses" else client.chat.completions,
            self.dialect.encode(self._supported(request)),
            connection.urls.chat,
            without_key(self._sdk, self._sdk_headers),
            self._sdk.Timeout(None, connect=clocks.connect),
            clocks.total,
        )

    def _client(self, loop: Background) -> Any:
        if loop not in self._clients:
            limits = self.config.limits
            connections = loop.shared(
                f"openai {limits}", lambda: make_connections(self._sdk, limits)
            )
            self._clients[loop] = make_client(
                self._sdk, self.base_url, self._sdk_headers, self.address.query, connections
            )
        return self._clients[loop]

    def _supported(self, request: ChatRequest) -> ChatRequest:
        """The request without a reasoning switch, which OpenAI's API does not have.

        Raises InvalidRequestError for ``structured_outputs``.
        """
        if request.sampling.structured_outputs:
            msg = (
                "sampling parameter 'structured_outputs' is vLLM's guided decoding, which OpenAI "
                "does not have; give the call an output_model instead"
            )
            raise InvalidRequestError(msg)
        if isinstance(request.reasoning, bool):
            self.warn_once(
                "reasoning",
                "reasoning=%s is not sent, because OpenAI has no such switch and the model "
                'decides; give an effort such as "low", or "none"',
                request.reasoning,
            )
            return replace(request, reasoning=None)
        return request


def _api_of(config: EngineSettings) -> str:
    """The API that the configuration asks for; raises ConfigError for unknown options."""
    if unknown := sorted(config.options.keys() - {"api"}):
        msg = f"engine {config.name!r}: options: {unknown[0]!r} is unknown; known is api"
        raise ConfigError(msg)
    api = config.options.get("api", "responses")
    if api not in _DIALECTS:
        msg = f"engine {config.name!r}: options: api is {api!r}; give responses or chat"
        raise ConfigError(msg)
    return str(api)


def _refuse_transport(config: EngineSettings) -> None:
    if config.transport != "auto":
        msg = (
            f"engine {config.name!r}: transport: the openai SDK uses its own HTTP client; leave "
            "this out, or use backend openai_compatible"
        )
        raise ConfigError(msg)
