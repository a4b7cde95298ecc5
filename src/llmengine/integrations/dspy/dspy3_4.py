"""The engines for DSPy 3.4 and later: one for sync callers and one for async callers."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias
from urllib.parse import urlsplit

import dspy
from dspy import lm15

from llmengine.integrations.dspy.adapter import (
    NO_KEY,
    DSPyEngine,
    chat_body,
    error_class,
    finish_reason_of,
    read_request,
    tool_call_body,
)
from llmengine.types import errors as ours
from llmengine.types.outputs import Usage
from llmengine.types.request import Capability

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from llmengine.engine.engine import Engine
    from llmengine.integrations.dspy.adapter import JSON, DSPyRequest
    from llmengine.types.outputs import Delta, LLMOutput
    from llmengine.types.wire import (
        AssistantMessage,
        ChatMessage,
        Content,
        ContentPart,
        FunctionDefinition,
        FunctionTool,
        ImageURL,
        NamedToolChoice,
        ToolChoice,
    )

    _StreamEvent: TypeAlias = lm15.StreamStartEvent | lm15.StreamDeltaEvent | lm15.StreamEndEvent


_ERRORS: dict[type[ours.LLMEngineError], type[lm15.LM15Error]] = {
    ours.ContextLengthError: lm15.ContextLengthError,
    ours.AuthenticationError: lm15.AuthError,
    ours.QuotaError: lm15.BillingError,
    ours.RateLimitError: lm15.RateLimitError,
    ours.NotFoundError: lm15.UnsupportedModelError,
    ours.BadRequestError: lm15.InvalidRequestError,
    ours.APITimeoutError: lm15.TimeoutError,
    ours.APIConnectionError: lm15.TransportError,
    ours.StreamIncompleteError: lm15.StreamAssemblyError,
    ours.InternalServerError: lm15.ServerError,
    ours.CallError: lm15.ProviderError,
    ours.InvalidRequestError: lm15.InvalidRequestError,
    ours.ConfigError: lm15.ConfigurationError,
}


@contextmanager
def dspy_errors(backend: str) -> Iterator[None]:
    """Raise errors inside as lm15's, which DSPy expects of engines; our error is the cause."""
    try:
        yield
    except ours.LLMEngineError as error:
        raise _dspy_error(error, backend) from error


def _dspy_error(error: ours.LLMEngineError, backend: str) -> lm15.LM15Error:
    theirs = error_class(error, _ERRORS) or lm15.LM15Error
    if not isinstance(error, ours.CallError):
        return theirs(str(error), provider=backend)
    code = None if error.code is None else str(error.code)
    return theirs(
        error.message,
        provider=backend,
        provider_code=code,
        status=error.status,
        retry_after=error.retry_after,
    )


_PRESET = "vllm"  # the names of parameters for servers other than OpenAI's


def declare(engine: Engine, model: str) -> str:
    """Register the server as a provider with its capabilities; return the model's name there.

    The provider's name is made of the address, so that DSPy's cache keeps servers apart and a saved
    program works in every process that calls this function too.
    """
    server = urlsplit(engine.root_url).netloc.lower()
    name = "llmengine-" + re.sub(r"[^a-z0-9]+", "-", server).strip("-")
    access = lm15.AccessPolicy(provider=name, base_url=engine.base_url)
    parameters = lm15.OpenAIChatCompat.preset(_PRESET)
    lm15.register_provider(
        lm15.ProviderDefinition.chat(access, compat=parameters, placeholder_key=NO_KEY),
        supports=_support(engine.backend.capabilities),
        replace=True,
    )
    return f"{name}/{model.partition('/')[2]}"


def _support(capabilities: frozenset[Capability]) -> lm15.ModelSupport:
    return lm15.ModelSupport(
        function_calling=Capability.TOOLS in capabilities,
        reasoning=Capability.REASONING in capabilities,
        response_schema=Capability.JSON_SCHEMA in capabilities,
    )


_CONFIG = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "response_format",
    "logprobs",
    "service_tier",
    "store",
)


def request_of(request: lm15.Request) -> DSPyRequest:
    """Turn DSPy's request into ours.

    Raises UnsupportedFeatureError for content that chat completions cannot hold, and our
    InvalidRequestError for parameters that engines do not have.
    """
    config = request.config
    arguments: JSON = {name: getattr(config, name) for name in _CONFIG}
    arguments |= dict(config.extensions or {})
    arguments |= {"stop": config.stop or None, "user": config.user_id}
    if config.reasoning is not None:
        arguments["reasoning_effort"] = (
            False if config.reasoning.is_off else config.reasoning.effort
        )
    if config.probabilities == "required":
        raise _unsupported("config.probabilities", "probabilities of the answer's values")
    if request.tools:
        arguments["tools"] = [_tool(tool) for tool in request.tools]
    if config.tool_choice is not None:
        arguments["tool_choice"] = _tool_choice(config.tool_choice)
        arguments["parallel_tool_calls"] = config.tool_choice.parallel
    return read_request(_messages(request), arguments)


def _messages(request: lm15.Request) -> list[ChatMessage]:
    messages: list[ChatMessage] = []
    if request.system:
        messages.append({"role": "system", "content": _content(request.system)})
    for message in request.messages:
        messages += _message_bodies(message)
    return messages


def _message_bodies(message: lm15.Message) -> Iterator[ChatMessage]:
    """One message in OpenAI's form; each tool result becomes a message of its own."""
    if message.role == "tool":
        for part in message.parts:
            yield {"role": "tool", "tool_call_id": part.id, "content": _content(part.content)}
    elif message.role == "assistant":
        yield _assistant_message(message)
    elif message.role == "developer":
        yield {"role": "developer", "content": _content(message.parts)}
    else:
        yield {"role": "user", "content": _content(message.parts)}


def _assistant_message(message: lm15.Message) -> AssistantMessage:
    calls = [part for part in message.parts if part.type == "tool_call"]
    # The model's reasoning is not part of a chat's history.
    content = [part for part in message.parts if part.type not in {"tool_call", "thinking"}]
    body: AssistantMessage = {
        "role": "assistant",
        "content": _content(content) if content else None,
    }
    if calls:
        body["tool_calls"] = [
            tool_call_body(call.id, call.name, json.dumps(call.input, ensure_ascii=False))
            for call in calls
        ]
    return body


def _content(content: str | Iterable[Any]) -> Content:
    if isinstance(content, str):
        return content
    parts = [_part(part) for part in content]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "".join(texts) if len(texts) == len(parts) else parts


def _part(part: Any) -> ContentPart:
    if part.type in {"text", "refusal"}:
        return {"type": "text", "text": part.text}
    if part.type == "data":
        return {"type": "text", "text": json.dumps(part.value, ensure_ascii=False)}
    if part.type == "image" and (part.url or part.data):
        url = part.url or f"data:{part.media_type};base64,{part.data}"
        image: ImageURL = {"url": url}
        if part.detail:
            image["detail"] = part.detail
        return {"type": "image_url", "image_url": image}
    raise _unsupported("messages", f"parts of the type {part.type!r}")


def _tool(tool: lm15.FunctionTool | lm15.BuiltinTool) -> FunctionTool:
    if tool.type != "function":
        raise _unsupported(f"tools[{tool.name}]", f"the built-in tool {tool.name!r}")
    function: FunctionDefinition = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.parameters
    return {"type": "function", "function": function}


def _tool_choice(choice: lm15.ToolChoice) -> ToolChoice:
    if not choice.allowed:
        mode: Literal["none", "auto", "required"] = choice.mode
        return mode
    named: list[NamedToolChoice] = [
        {"type": "function", "function": {"name": name}} for name in choice.allowed
    ]
    if len(named) == 1 and choice.mode == "required":
        return named[0]
    return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": named}}


def _unsupported(feature: str, what: str) -> lm15.UnsupportedFeatureError:
    return lm15.UnsupportedFeatureError(f"chat completions do not support {what}", feature=feature)


# Indexes of the parts in the message: reasoning, text, then the tool calls in order.
_THINKING, _TEXT, _FIRST_TOOL_CALL = 0, 1, 2


class StreamEvents:
    """Turns our deltas of one streamed answer into DSPy's events."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._finish: str | None = None
        self._usage = Usage()

    def start(self) -> lm15.StreamStartEvent:
        """The event before all others."""
        return lm15.StreamStartEvent(model=self._model)

    def of(self, delta: Delta) -> Iterator[_StreamEvent]:
        """The events for one delta; the finish reason and the usage are for the last event."""
        self._finish = delta.finish_reason or self._finish
        self._usage = delta.usage or self._usage
        if delta.reasoning:
            yield lm15.StreamDeltaEvent(lm15.ThinkingDelta(delta.reasoning, part_index=_THINKING))
        if delta.text:
            yield lm15.StreamDeltaEvent(lm15.TextDelta(delta.text, part_index=_TEXT))
        for call in delta.tool_calls:
            index = _FIRST_TOOL_CALL + call.index
            yield lm15.StreamDeltaEvent(
                lm15.ToolCallDelta(
                    call.arguments, part_index=index, id=call.id or None, name=call.name or None
                )
            )

    def end(self) -> lm15.StreamEndEvent:
        """The event after all others."""
        # Only an answer of endless whitespace, which the engine cuts off, has no finish reason.
        reason = finish_reason_of(self._finish or "length")
        return lm15.StreamEndEvent(
            finish_reason="tool_call" if reason == "tool_calls" else reason,
            usage=usage_of(self._usage),
        )


def usage_of(usage: Usage) -> lm15.Usage:
    """The token counts under DSPy's names; counts that the server did not send are None."""
    return lm15.Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        cache_read_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )


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


class _LMEngine:
    """What both engines share: their capabilities, and how they are saved."""

    # True for every server: if it ignores or refuses schemas, the engine tries other ways.
    supports_response_schema = True

    def __init__(self, dspy_engine: DSPyEngine) -> None:
        self.dspy_engine = dspy_engine

    @property
    def supports_function_calling(self) -> bool:
        """Whether the server takes tools, so that adapters pass them natively."""
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
        return self.dspy_engine.engine.backend.capabilities

    def dump_state(self) -> JSON:
        """The state that DSPy saves: the configuration without the key."""
        return self.dspy_engine.dump()

    @classmethod
    def load_state(cls, state: JSON) -> Self:
        """Make the engine of a saved program."""
        return cls(DSPyEngine.load(state))

    def _response(self, output: LLMOutput) -> lm15.Response:
        body = chat_body(output, model=self.dspy_engine.engine.model)
        return lm15.response_from_openai_chat(body)


class SyncEngine(_LMEngine):
    """Answers DSPy's requests with an engine, which also does the retries."""

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Return the whole answer."""
        with dspy_errors(self.dspy_engine.engine.backend.name):
            return self._response(self.dspy_engine.generate(request_of(request)))

    def stream(self, request: lm15.Request) -> Iterator[_StreamEvent]:
        """Stream the answer as DSPy's events."""
        events = StreamEvents(self.dspy_engine.engine.model)
        with dspy_errors(self.dspy_engine.engine.backend.name):
            yield events.start()
            for delta in self.dspy_engine.stream(request_of(request)):
                yield from events.of(delta)
            yield events.end()

    def close(self) -> None:
        """Do nothing, because the caller that made the engine closes it."""


class AsyncEngine(_LMEngine):
    """`SyncEngine` for a running event loop."""

    async def complete(self, request: lm15.Request) -> lm15.Response:
        """Return the whole answer."""
        with dspy_errors(self.dspy_engine.engine.backend.name):
            return self._response(await self.dspy_engine.agenerate(request_of(request)))

    async def stream(self, request: lm15.Request) -> AsyncIterator[_StreamEvent]:
        """Stream the answer as DSPy's events."""
        events = StreamEvents(self.dspy_engine.engine.model)
        with dspy_errors(self.dspy_engine.engine.backend.name):
            yield events.start()
            async for delta in self.dspy_engine.astream(request_of(request)):
                for event in events.of(delta):
                    yield event
            yield events.end()

    async def aclose(self) -> None:
        """Do nothing, because the caller that made the engine closes it."""


def make_lm(dspy_engine: DSPyEngine, **arguments: object) -> dspy.LM:
    """Make DSPy's own LM over both engines; DSPy does not retry, because the engine does."""
    return dspy.LM(
        f"{dspy_engine.engine.backend.name}/{dspy_engine.identity}",
        engine=SyncEngine(dspy_engine),
        async_engine=AsyncEngine(dspy_engine),
        num_retries=0,
        **{"provider": dspy.clients.Provider()} | arguments,
    )
