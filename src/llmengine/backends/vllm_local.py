"""The backend ``vllm_local``: ``vllm.LLM`` in this process, with the interface of every engine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, ClassVar, NoReturn

from llmengine.backends.base import Backend
from llmengine.backends.connection import URLs
from llmengine.config.settings import EngineSettings, Timeouts
from llmengine.dialects.openai_chat import VLLM_EXTRAS, OpenAIChat
from llmengine.structured.features import VLLM_IGNORES
from llmengine.transport.loop import background
from llmengine.types.errors import ConfigError, InvalidRequestError
from llmengine.types.outputs import Fingerprint
from llmengine.types.request import Capability
from llmengine.vllm_local.runtime import LocalRequest, Share
from llmengine.vllm_local.session import require_vllm, vllm_version

if TYPE_CHECKING:
    from llmengine.backends.connection import Connection
    from llmengine.transport.loop import Background
    from llmengine.types.request import ChatRequest


# Fields of a configuration that apply only to a server.
_SERVER_FIELDS = ("endpoint", "api_key", "api_key_env", "headers", "transport", "cold_start")
# Twice the number of requests that vLLM runs at once if it has enough memory.
_WINDOW = 2048


class VLLMLocal(Backend):
    """``vllm.LLM`` of this process (vLLM 0.12 or later), loaded when it is first needed.

    ``model`` is a folder or a name as vLLM takes it. ``options`` are the arguments of
    ``vllm.LLM`` and ``tool_call_parser``, which is an option of vLLM's server. Engines of one
    model with the same options share one LLM, which is released when the last of these engines is
    closed, or at exit.

    vLLM's scheduler decides what runs at once, so the number of calls has no limit unless the
    configuration sets ``max_concurrency``, and a call has none unless it sets ``timeout``.
    """

    name = "vllm_local"
    dialect = OpenAIChat(extras=VLLM_EXTRAS)
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability) - {
        Capability.AUTH,
        Capability.COMPLETIONS,
        Capability.EMBEDDINGS,
        Capability.RESPONSES,
    }
    trusts_schema = True
    # The server and the `vllm.LLM` class check and compile a schema in the same code:
    # `SamplingParams.verify` and `StructuredOutputManager` of vLLM 0.32.
    ignored_features = VLLM_IGNORES
    in_process = True

    def __init__(self, config: EngineSettings) -> None:
        _refuse_server_fields(config)
        require_vllm()
        super().__init__(config)
        self._share = Share(self, config.model, config.options)

    @property
    def concurrency(self) -> int:
        """Unlimited, unless ``max_concurrency`` is configured."""
        return super().concurrency if self._is_configured("max_concurrency") else sys.maxsize

    @property
    def window(self) -> int:
        """Enough calls to keep vLLM busy, unless ``max_concurrency`` is configured."""
        return super().window if self._is_configured("max_concurrency") else _WINDOW

    @property
    def clocks(self) -> Timeouts:
        """No time limits unless ``timeout`` is configured, since they include the wait in vLLM."""
        return super().clocks if self._is_configured("timeout") else Timeouts(total=None)

    @property
    def url(self) -> str:
        """A name for messages, since there is no address."""
        return f"vllm_local:{self.config.model}"

    @property
    def root_url(self) -> str:
        """The same name, by which engines of one model share pauses and limits."""
        return self.url

    @property
    def endpoint(self) -> NoReturn:
        """Raise ConfigError, because there is no server."""
        msg = (
            f"engine {self.config.name!r} runs vLLM in this process and has no address for a "
            "client; start `vllm serve` and use backend 'vllm_api' for that"
        )
        raise ConfigError(msg)

    def urls(self) -> URLs:
        """The same name for each, since there is no address."""
        return URLs(self.url, self.url, self.url)

    async def identify(self, connection: Connection) -> Fingerprint:  # noqa: ARG002 - nothing is sent
        """The fingerprint, as far as it is known without loading the model."""
        model = self.config.model
        return Fingerprint(self.url, vllm_version(), model, (model,), root=model)

    async def ready(self, loop: Background) -> None:
        """Wait until the model is loaded; raises ConfigError if it cannot be."""
        await self._share.loaded(loop)

    def outgoing(self, connection: Connection, request: ChatRequest) -> LocalRequest:
        """The request, to be run by the LLM of this process."""
        self._refuse_unsupported(request)
        return LocalRequest(self._share.thread(connection.loop), request, self.clocks.total)

    def close(self) -> None:
        """Release the LLM if no other engine uses it; the next call loads it again."""
        super().close()
        loop = background()
        loop.submit(self._share.leave(loop)).result()

    def _refuse_unsupported(self, request: ChatRequest) -> None:
        if request.stream and request.sampling.prompt_logprobs is not None:
            raise InvalidRequestError("a stream has no prompt_logprobs; use generate")
        calls = request.tools and request.tool_choice != "none"
        if calls and "tool_call_parser" not in self.config.options:
            msg = (
                f"engine {self.config.name!r} has no tool_call_parser, so tool calls would "
                "arrive as text; set the model's parser in options, such as "
                "{tool_call_parser: hermes}"
            )
            raise InvalidRequestError(msg)

    def _is_configured(self, field: str) -> bool:
        return field in self.config.model_fields_set


def _refuse_server_fields(config: EngineSettings) -> None:
    for name in _SERVER_FIELDS:
        if getattr(config, name) != EngineSettings.model_fields[name].get_default(
            call_default_factory=True
        ):
            msg = (
                f"engine {config.name!r}: {name}: backend 'vllm_local' runs vLLM in this process "
                f"and has no server; leave it out, or use backend 'vllm_api'"
            )
            raise ConfigError(msg)
