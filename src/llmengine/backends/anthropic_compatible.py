"""The backend ``anthropic_compatible``: any server with Anthropic's Messages API.

Examples are llama.cpp, vLLM, SGLang, Ollama, and Anthropic's own server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from llmengine.backends.base import Backend
from llmengine.backends.server_info import post
from llmengine.config.address import plain, root_of
from llmengine.dialects.anthropic_messages import AnthropicMessages
from llmengine.dialects.common import not_read, read_object
from llmengine.dialects.fields import FieldError, count
from llmengine.types.errors import InvalidRequestError
from llmengine.types.outputs import Tokens
from llmengine.types.request import Capability

if TYPE_CHECKING:
    from llmengine.backends.connection import Connection
    from llmengine.config.settings import EngineSettings
    from llmengine.types.request import ChatRequest


# The version of the API. The later one, 2026-10-21, has no temperature, top_p and top_k.
_VERSION = "2023-06-01"
# Fields of a message that affect its prompt; see MessageCountTokensParams in anthropic-sdk-python.
_PROMPT_FIELDS = ("model", "system", "messages", "tools", "tool_choice", "thinking")


class AnthropicCompatible(Backend):
    """Any server with ``/v1/messages``.

    Its address comes from the configuration or from ``ANTHROPIC_BASE_URL``; there is no default.
    As in Anthropic's SDKs, ``/v1`` may be left out of the address. ``ANTHROPIC_API_KEY`` is sent
    only to the address in ``ANTHROPIC_BASE_URL``. The key is sent as a bearer token, as version 2
    of Anthropic's SDK does and vLLM and SGLang require, and as ``x-api-key``, for other gateways.
    The header ``anthropic-version`` can be replaced in the configuration's ``headers``.
    """

    name = "anthropic_compatible"
    dialect = AnthropicMessages()
    endpoint_env = ("ANTHROPIC_BASE_URL",)
    key_env = "ANTHROPIC_API_KEY"
    version_path = "/version"  # vLLM has it
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.STREAMING,
            Capability.TOOLS,
            Capability.JSON_SCHEMA,
            Capability.REASONING,
            Capability.VISION,
            Capability.MESSAGES,
            Capability.AUTH,
        }
    )

    def __init__(self, config: EngineSettings) -> None:
        super().__init__(config)
        key = self.address.key
        self.address.add_headers(
            {"anthropic-version": _VERSION} | ({"x-api-key": key} if key else {})
        )

    @property
    def base_url(self) -> str:
        """The address with ``/v1``, which an address for Anthropic's SDKs does not have."""
        return f"{root_of(plain(self.endpoint))}/v1"

    async def tokenize(self, connection: Connection, prompt: str | ChatRequest) -> Tokens:
        """The number of tokens of a chat, without their ids, which the API does not give.

        Raises InvalidRequestError for a text that is not a chat.
        """
        if isinstance(prompt, str):
            raise InvalidRequestError(
                f"engine {self.config.name!r}: Anthropic's API counts the tokens of a chat and "
                "not of a text; give messages, such as [{'role': 'user', 'content': ...}]"
            )
        body = self.dialect.encode(prompt)
        fields = {name: body[name] for name in _PROMPT_FIELDS if name in body}
        answer = await post(connection, f"{connection.urls.chat}/count_tokens", fields)
        try:
            counted = count(read_object(answer), "input_tokens")
            if counted is None:
                raise FieldError("input_tokens is missing")
        except FieldError as error:
            raise not_read("the answer holds no count of tokens", error, answer) from None
        return Tokens((), counted=counted)
