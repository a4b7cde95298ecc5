"""The language model for DSPy 2.5 to 3.3, where DSPy's own LM uses litellm."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio.from_thread
import dspy
import litellm
from dspy.clients.cache import request_cache
from dspy.clients.provider import Provider

from llmengine.integrations.dspy.adapter import (
    chat_body,
    error_class,
    finish_reason_of,
    read_request,
    usage_body,
    warn_if_cut,
)
from llmengine.integrations.dspy.litellm_facts import declare
from llmengine.integrations.dspy.lm import native_lm
from llmengine.types import errors as ours
from llmengine.types.outputs import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from llmengine.integrations.dspy.adapter import JSON, DSPyEngine, DSPyRequest
    from llmengine.types.outputs import Delta, LLMOutput, ToolCallDelta
    from llmengine.types.wire import ChunkChoice, FunctionToolCallDelta, MessageDelta

log = logging.getLogger("llmengine")

_cached = request_cache(cache_arg_name="request")


class EngineLM(dspy.LM):  # type: ignore[misc]  # dspy has no types
    """A ``dspy.LM`` whose calls go to an engine; the engine retries, and DSPy does not.

    The identity of the engine is in the key of DSPy's cache. ``history``, usage, callbacks and
    copies work as in DSPy.
    """

    def __init__(self, dspy_engine: DSPyEngine, **arguments: object) -> None:
        # Adapters look up capabilities by the model's name, and litellm knows this prefix.
        name = f"openai/{dspy_engine.identity}"
        declare(dspy_engine.engine, name, has_schemas=True)
        super().__init__(name, num_retries=0, **{"provider": Provider()} | arguments)
        self.dspy_engine = dspy_engine

    def forward(
        self, prompt: str | None = None, messages: list[JSON] | None = None, **kwargs: object
    ) -> litellm.ModelResponse:
        """Return the answer as a chat completion; raises litellm's errors."""
        use_cache = kwargs.pop("cache", self.cache)
        request = self._cache_key(prompt, messages, kwargs)
        answer = _cached(self._answer) if use_cache else self._answer
        with no_second_attempt(dspy.settings.caller_modules), dspy_errors(self.model):
            return self._accounted(answer(request=request), request)

    async def aforward(
        self, prompt: str | None = None, messages: list[JSON] | None = None, **kwargs: object
    ) -> litellm.ModelResponse:
        """`forward` for a running event loop."""
        use_cache = kwargs.pop("cache", self.cache)
        request = self._cache_key(prompt, messages, kwargs)
        answer = _cached(self._aanswer) if use_cache else self._aanswer
        with no_second_attempt(dspy.settings.caller_modules), dspy_errors(self.model):
            return self._accounted(await answer(request=request), request)

    def dump_state(self) -> JSON:
        """Save DSPy's own LM for the same server, because DSPy cannot load any other class."""
        log.warning(
            "engine %r: this DSPy saves and loads only its own LM, and no key; after load() give "
            "the program the engine again: program.set_lm(to_lm(...))",
            self.dspy_engine.engine.name,
        )
        state: JSON = native_lm(self.dspy_engine.engine, **self.kwargs).dump_state()
        for secret in ("api_key", "extra_headers"):
            state.pop(secret, None)
        return state

    def _cache_key(self, prompt: object, messages: object, kwargs: JSON) -> JSON:
        """Everything that decides the answer; the cache makes its key of it."""
        chat = messages or [{"role": "user", "content": prompt}]
        return {"model": self.model, "messages": chat, **self.kwargs, **kwargs}

    def _answer(self, request: JSON) -> litellm.ModelResponse:
        read = _read(request)
        if dspy.settings.send_stream is not None and read.count == 1:
            return stream_to_listeners(self.dspy_engine.stream(read), self.model)
        return self._response(self.dspy_engine.generate(read))

    async def _aanswer(self, request: JSON) -> litellm.ModelResponse:
        read = _read(request)
        if dspy.settings.send_stream is not None and read.count == 1:
            return await astream_to_listeners(self.dspy_engine.astream(read), self.model)
        return self._response(await self.dspy_engine.agenerate(read))

    def _response(self, output: LLMOutput) -> litellm.ModelResponse:
        return litellm.ModelResponse(**chat_body(output, model=self.dspy_engine.engine.model))

    def _accounted(self, response: litellm.ModelResponse, request: JSON) -> litellm.ModelResponse:
        reasons = [choice.finish_reason for choice in response.choices]
        warn_if_cut(self.dspy_engine.engine.name, reasons, request.get("max_tokens"))
        tracker = dspy.settings.usage_tracker
        if tracker is not None and not getattr(response, "cache_hit", False):
            tracker.add_usage(self.model, dict(response.usage))
        return response


make_lm = EngineLM


def _read(request: JSON) -> DSPyRequest:
    arguments = dict(request)
    return read_request(arguments.pop("messages"), arguments)


# ---- errors

_PROVIDER = "llmengine"
_ERRORS: dict[type[ours.LLMEngineError], Any] = {
    ours.ContextLengthError: litellm.ContextWindowExceededError,
    ours.AuthenticationError: litellm.AuthenticationError,
    ours.RateLimitError: litellm.RateLimitError,
    ours.NotFoundError: litellm.NotFoundError,
    ours.BadRequestError: litellm.BadRequestError,
    ours.APITimeoutError: litellm.Timeout,
    ours.APIConnectionError: litellm.APIConnectionError,
    ours.StreamIncompleteError: litellm.APIConnectionError,
    ours.InternalServerError: litellm.InternalServerError,
    ours.CallError: litellm.APIConnectionError,
    ours.InvalidRequestError: litellm.BadRequestError,
}


@contextmanager
def dspy_errors(model: str) -> Iterator[None]:
    """Raise errors inside as litellm's, as DSPy's own LM does; our error is the cause."""
    try:
        yield
    except ours.LLMEngineError as error:
        theirs = error_class(error, _ERRORS)
        if theirs is None:
            raise
        raise theirs(message=str(error), llm_provider=_PROVIDER, model=model) from error


_MODULES_AT_FAILURE = "_llmengine_modules"


@contextmanager
def no_second_attempt(modules: object) -> Iterator[None]:
    """Raise the failure that an adapter is handling again, instead of sending a second request.

    Before 3.4 an adapter reacts to every failure of its language model by a second request in
    another format, and after that by a third one. It does so for an answer that it cannot read,
    but also for a 500. At that point the engine has already retried, so each of these requests
    would repeat all retries.

    ``modules`` is DSPy's stack of running modules. It is a new list for each call of a module: the
    same list means the second attempt of an adapter, another list means a retry by the user.
    """
    handled = sys.exc_info()[1]
    if handled is not None and modules and vars(handled).get(_MODULES_AT_FAILURE) is modules:
        raise handled
    try:
        yield
    except Exception as error:
        vars(error)[_MODULES_AT_FAILURE] = modules
        raise


# ---- streams


def stream_to_listeners(deltas: Iterator[Delta], model: str) -> litellm.ModelResponse:
    """Send every delta to DSPy's listeners as it comes, and return the whole answer.

    The program runs on a worker thread of the loop that reads the stream.
    """
    answer, send = _StreamedAnswer(model), dspy.settings.send_stream.send
    for delta in deltas:
        for chunk in answer.chunks(delta):
            anyio.from_thread.run(send, chunk)
    return answer.whole()


async def astream_to_listeners(deltas: AsyncIterator[Delta], model: str) -> litellm.ModelResponse:
    """`stream_to_listeners` for a program that runs on the loop itself."""
    answer, send = _StreamedAnswer(model), dspy.settings.send_stream.send
    async for delta in deltas:
        for chunk in answer.chunks(delta):
            await send(chunk)
    return answer.whole()


class _StreamedAnswer:
    """One streamed answer as litellm's chunks, which DSPy's listeners read before 3.4."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._caller = dspy.settings.caller_predict
        self._chunks: list[litellm.ModelResponseStream] = []
        self._usage = Usage()

    def chunks(self, delta: Delta) -> Iterator[litellm.ModelResponseStream]:
        """The chunk for a delta; nothing if the delta has no content."""
        self._usage = delta.usage or self._usage
        if not delta.has_content and delta.finish_reason is None:
            return
        finish = delta.finish_reason and finish_reason_of(delta.finish_reason)
        choice: ChunkChoice = {
            "index": 0,
            "delta": _delta_body(delta),
            "finish_reason": finish,
        }
        chunk = litellm.ModelResponseStream(model=self._model, choices=[choice])
        # DSPy's listeners find the predictor of an answer by this id.
        chunk.predict_id = id(self._caller) if self._caller else None
        self._chunks.append(chunk)
        yield chunk

    def whole(self) -> litellm.ModelResponse:
        """All chunks joined to one completion."""
        response = litellm.stream_chunk_builder(self._chunks)
        response.usage = litellm.Usage(**usage_body(self._usage))
        return response


def _delta_body(delta: Delta) -> MessageDelta:
    body: MessageDelta = {"role": "assistant", "content": delta.text or None}
    if delta.reasoning:
        body["reasoning_content"] = delta.reasoning
    if delta.tool_calls:
        body["tool_calls"] = [_tool_call_delta(call) for call in delta.tool_calls]
    return body


def _tool_call_delta(call: ToolCallDelta) -> FunctionToolCallDelta:
    return {
        "index": call.index,
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }
