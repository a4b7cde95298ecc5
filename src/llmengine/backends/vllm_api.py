"""The backend ``vllm_api``: vLLM's own HTTP server, with its ``/tokenize`` and ``/detokenize``."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from llmengine.backends.base import Backend
from llmengine.backends.server_info import post
from llmengine.dialects.common import not_read, read_object
from llmengine.dialects.fields import FieldError, count, required_text, whole_numbers
from llmengine.dialects.openai_chat import VLLM_EXTRAS, OpenAIChat
from llmengine.structured.features import VLLM_IGNORES
from llmengine.types.errors import InvalidRequestError, NotFoundError
from llmengine.types.outputs import Tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmengine.backends.connection import Connection
    from llmengine.transport.base import HTTPRequest, Outgoing
    from llmengine.types.request import ChatRequest


_REMOVED_PREFIX = "guided_"


def refuse_removed(body: Mapping[str, object]) -> None:
    """Raise InvalidRequestError for a guided decoding field that vLLM no longer has.

    vLLM accepts such a field with a 200 and ignores it.
    """
    for name in body:
        if name.startswith(_REMOVED_PREFIX):
            kind = name.removeprefix(_REMOVED_PREFIX)
            raise InvalidRequestError(
                f"extra_body: vLLM no longer has the field {name!r} and ignores it, so the answer "
                f"would be unconstrained; give SamplingParams(structured_outputs={{{kind!r}: ...}})"
            )


# Fields of a chat that affect its prompt; see TokenizeChatRequest in vLLM's openapi.json.
_PROMPT_FIELDS = (
    "model",
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
    "chat_template",
    "chat_template_kwargs",
    "media_io_kwargs",
    "mm_processor_kwargs",
)


class VLLMAPI(Backend):
    """``vllm serve``, by default on port 8000 of this machine.

    ``VLLM_BASE_URL`` sets another default address, and so do the variables that any-llm and
    litellm use. ``VLLM_API_KEY`` is the key, if the server wants one. ``VLLM_PORT`` and
    ``VLLM_HOST_IP`` are not read: they are for communication between vLLM's own processes and do
    not give the address of its API.
    """

    name = "vllm_api"
    default_endpoint = "http://localhost:8000/v1"
    endpoint_env = ("VLLM_BASE_URL", "VLLM_API_BASE", "HOSTED_VLLM_API_BASE")
    key_env = "VLLM_API_KEY"
    version_path = "/version"
    endpoint_keys: ClassVar[Mapping[str, str | None]] = {
        "HOSTED_VLLM_API_BASE": "HOSTED_VLLM_API_KEY"
    }
    dialect = OpenAIChat(
        extras=VLLM_EXTRAS,
        thinking_kwarg="enable_thinking",
        strict_tools=True,
        twin_reasoning=True,
    )
    ignored_features = VLLM_IGNORES

    def outgoing(self, connection: Connection, request: ChatRequest) -> HTTPRequest | Outgoing:
        """The request; raises InvalidRequestError for a field that vLLM would ignore."""
        refuse_removed(request.extra_body)
        return super().outgoing(connection, request)

    async def tokenize(self, connection: Connection, prompt: str | ChatRequest) -> Tokens:
        """The tokens of a text as it is, or of a chat; NotFoundError for an unknown model."""
        body: Mapping[str, object] = (
            {"model": self.config.model, "prompt": prompt}
            if isinstance(prompt, str)
            else _prompt_fields(self.dialect.encode(prompt))
        )
        answer = await _post(connection, "/tokenize", body)
        fields = read_object(answer)
        try:
            ids = whole_numbers(fields, "tokens")
            if ids is None:
                raise FieldError("tokens is missing")
            return Tokens(ids, count(fields, "max_model_len"))
        except FieldError as error:
            raise not_read("the answer holds no tokens", error, answer) from None

    async def detokenize(self, connection: Connection, token_ids: Iterable[int]) -> str:
        """The text of token ids; NotFoundError for an unknown model."""
        body = {"model": self.config.model, "tokens": list(token_ids)}
        answer = await _post(connection, "/detokenize", body)
        try:
            return required_text(read_object(answer), "prompt")
        except FieldError as error:
            raise not_read("the answer holds no text", error, answer) from None


def _prompt_fields(chat: Mapping[str, object]) -> dict[str, object]:
    """The fields of a chat's body that affect its prompt."""
    body = {name: chat[name] for name in _PROMPT_FIELDS if name in chat}
    if "reasoning_effort" in chat:  # a chat passes it to the template; /tokenize has no such field
        given = body.get("chat_template_kwargs")
        effort = {"reasoning_effort": chat["reasoning_effort"]}
        body["chat_template_kwargs"] = effort | given if isinstance(given, dict) else effort
    return body


async def _post(connection: Connection, path: str, body: Mapping[str, object]) -> bytes:
    try:
        return await post(connection, connection.urls.root + path, body)
    except NotFoundError as error:
        error.advise(f"{connection.urls.root}{path} is a route of vLLM's server")
        raise
