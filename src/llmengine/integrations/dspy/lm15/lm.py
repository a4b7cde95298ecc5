"""The engine pair that a DSPy from 3.4 on drives: one for sync callers, one for async."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import dspy
from dspy import lm15

from llmengine.integrations.dspy.asker import Asker
from llmengine.integrations.dspy.chat_body import chat_body
from llmengine.integrations.dspy.lm15.errors import dspy_errors
from llmengine.integrations.dspy.lm15.request import question_of
from llmengine.integrations.dspy.lm15.stream import Events
from llmengine.types.request import Capability

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_PARAMS = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "max_completion_tokens",
        "max_tokens",
        "presence_penalty",
        "response_format",
        "seed",
        "stop",
        "temperature",
        "top_k",
        "top_p",
    }
)
_BY_CAPABILITY = {
    Capability.LOGPROBS: {"logprobs", "top_logprobs"},
    Capability.REASONING: {"reasoning_effort"},
    Capability.STREAMING: {"stream"},
    Capability.TOOLS: {"tools", "tool_choice", "parallel_tool_calls"},
}


class _Pair:
    """What both halves of the pair say of themselves, and how they are saved."""

    # On any server: where it ignores or refuses a schema, the engine has its ladder.
    supports_response_schema = True

    def __init__(self, asker: Asker) -> None:
        self.asker = asker

    @property
    def supports_function_calling(self) -> bool:
        """Whether the server takes tools, so that adapters hand them over natively."""
        return Capability.TOOLS in self._capabilities

    @property
    def supports_reasoning(self) -> bool:
        """Whether the server can be asked to reason."""
        return Capability.REASONING in self._capabilities

    @property
    def supported_params(self) -> frozenset[str]:
        """The parameters that adapters may set."""
        own = (names for has, names in _BY_CAPABILITY.items() if has in self._capabilities)
        return _PARAMS.union(*own)

    @property
    def _capabilities(self) -> frozenset[Capability]:
        return self.asker.engine.capabilities

    def dump_state(self) -> dict[str, Any]:
        """What DSPy saves: the configuration, without the key."""
        return self.asker.dump()

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> Self:
        """The engine that a saved program had."""
        return cls(Asker.load(state))

    def _read(self, output: Any) -> lm15.Response:
        body = chat_body(output, model=self.asker.engine.model)
        return lm15.response_from_openai_chat(body)


class SyncEngine(_Pair):
    """Answers DSPy's requests by an engine; it sends each once and retries as the engine does."""

    def complete(self, request: lm15.Request) -> lm15.Response:
        """The whole answer."""
        with dspy_errors(self.asker.engine.backend):
            return self._read(self.asker.ask(question_of(request)))

    def stream(self, request: lm15.Request) -> Iterator[Any]:
        """The answer token by token, as DSPy's events."""
        events = Events(self.asker.engine.model)
        with dspy_errors(self.asker.engine.backend):
            yield events.start()
            for delta in self.asker.stream(question_of(request)):
                yield from events.of(delta)
            yield events.end()

    def close(self) -> None:
        """Nothing: the engine belongs to whoever made it."""


class AsyncEngine(_Pair):
    """`SyncEngine` for a running event loop."""

    async def complete(self, request: lm15.Request) -> lm15.Response:
        """The whole answer."""
        with dspy_errors(self.asker.engine.backend):
            return self._read(await self.asker.aask(question_of(request)))

    async def stream(self, request: lm15.Request) -> AsyncIterator[Any]:
        """The answer token by token, as DSPy's events."""
        events = Events(self.asker.engine.model)
        with dspy_errors(self.asker.engine.backend):
            yield events.start()
            async for delta in self.asker.astream(question_of(request)):
                for event in events.of(delta):
                    yield event
            yield events.end()

    async def aclose(self) -> None:
        """Nothing: the engine belongs to whoever made it."""


def make(asker: Asker, **arguments: Any) -> Any:
    """DSPy's own LM over the pair; the engine retries, so that DSPy does not."""
    return dspy.LM(
        f"{asker.engine.backend}/{asker.identity}",
        engine=SyncEngine(asker),
        async_engine=AsyncEngine(asker),
        num_retries=0,
        **{"provider": dspy.clients.Provider()} | arguments,
    )
