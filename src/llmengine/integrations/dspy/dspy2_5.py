"""The language model for DSPy 2.5 to 3.3: DSPy's own asks litellm, ours asks an engine."""

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
    finish_of,
    read_question,
    usage_body,
    warn_if_cut,
)
from llmengine.integrations.dspy.litellm_facts import declare
from llmengine.integrations.dspy.lm import native_lm
from llmengine.types import errors as ours
from llmengine.types.outputs import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from llmengine.integrations.dspy.adapter import DSPyEngine, DSPyRequest
    from llmengine.types.outputs import Delta, LLMOutput


_PROVIDER = "llmengine"

# The first match counts, so subclasses come before their base classes.
_KINDS: tuple[tuple[type[ours.LLMEngineError], Any], ...] = (
    (ours.ContextLengthError, litellm.ContextWindowExceededError),
    (ours.AuthenticationError, litellm.AuthenticationError),
    (ours.RateLimitError, litellm.RateLimitError),
    (ours.NotFoundError, litellm.NotFoundError),
    (ours.BadRequestError, litellm.BadRequestError),
    (ours.APITimeoutError, litellm.Timeout),
    (ours.APIConnectionError, litellm.APIConnectionError),
    (ours.StreamIncompleteError, litellm.APIConnectionError),
    (ours.InternalServerError, litellm.InternalServerError),
    (ours.CallError, litellm.APIConnectionError),
    (ours.InvalidRequestError, litellm.BadRequestError),
)


@contextmanager
def dspy_errors(model: str) -> Iterator[None]:
    """Raise errors inside as litellm's, as DSPy's own LM does; our error is the cause."""
    try:
        yield
    except ours.LLMEngineError as error:
        kind = next((theirs for mine, theirs in _KINDS if isinstance(error, mine)), None)
        if kind is None:
            raise
        raise kind(message=str(error), llm_provider=_PROVIDER, model=model) from error


_DURING = "_llmengine_modules"


@contextmanager
def failing_once(modules: Any) -> Iterator[None]:
    """Raise the failure that an adapter is handling again, instead of asking a second time.

    Before 3.4 an adapter reacts to every failure of its language model by asking again in another
    format, and after that in a third format. It does so for an answer that it cannot read, but also
    for a 500. At that point the engine has already retried, so each of these calls would repeat all
    retries.

    ``modules`` is DSPy's stack of running modules. It is a new list for each call of a module: the
    same list means the second try of an adapter, another list means a retry by the user.
    """
    handled = sys.exc_info()[1]
    if handled is not None and modules and vars(handled).get(_DURING) is modules:
        raise handled
    try:
        yield
    except Exception as error:
        vars(error)[_DURING] = modules
        raise


def send_all(deltas: Iterator[Delta], model: str) -> Any:
    """Send every delta to DSPy's stream as it comes, and return the whole answer.

    The program runs on a worker thread of the loop that reads the stream.
    """
    answer, send = _Answer(model), dspy.settings.send_stream.send
    for delta in deltas:
        for chunk in answer.chunks(delta):
            anyio.from_thread.run(send, chunk)
    return answer.whole()


async def asend_all(deltas: AsyncIterator[Delta], model: str) -> Any:
    """`send_all` for a program that runs on the loop itself."""
    answer, send = _Answer(model), dspy.settings.send_stream.send
    async for delta in deltas:
        for chunk in answer.chunks(delta):
            await send(chunk)
    return answer.whole()


class _Answer:
    """One streamed answer as litellm's chunks, which DSPy's listeners read before 3.4."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._caller = dspy.settings.caller_predict
        self._sent: list[Any] = []
        self._usage = Usage()

    def chunks(self, delta: Delta) -> Iterator[Any]:
        """The chunk for a delta; nothing if the delta has no content."""
        self._usage = delta.usage or self._usage
        if not delta.has_content and delta.finish_reason is None:
            return
        finish = delta.finish_reason and finish_of(delta.finish_reason)
        choice = {"index": 0, "delta": _delta(delta), "finish_reason": finish}
        chunk = litellm.ModelResponseStream(model=self._model, choices=[choice])
        # DSPy's listeners find the predictor of an answer by this id.
        chunk.predict_id = id(self._caller) if self._caller else None
        self._sent.append(chunk)
        yield chunk

    def whole(self) -> Any:
        """All chunks joined to one completion."""
        response = litellm.stream_chunk_builder(self._sent)
        response.usage = litellm.Usage(**usage_body(self._usage))
        return response


def _delta(delta: Delta) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": delta.text or None}
    if delta.reasoning:
        said["reasoning_content"] = delta.reasoning
    if delta.tool_calls:
        said["tool_calls"] = [
            {
                "index": call.index,
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in delta.tool_calls
        ]
    return said


log = logging.getLogger("llmengine")

_cached = request_cache(cache_arg_name="request")


class EngineLM(dspy.LM):  # type: ignore[misc]  # dspy has no types
    """A ``dspy.LM`` whose calls go to an engine; the engine retries, and DSPy does not.

    The identity of the engine is in the key of DSPy's cache. ``history``, usage, callbacks and
    copies work as in DSPy.
    """

    def __init__(self, asker: DSPyEngine, **arguments: Any) -> None:
        # Adapters look up capabilities by the model's name, and litellm knows this prefix.
        name = declare(asker.engine, f"openai/{asker.identity}", has_schemas=True)
        super().__init__(name, num_retries=0, **{"provider": Provider()} | arguments)
        self.asker = asker

    def forward(
        self, prompt: str | None = None, messages: list[dict[str, Any]] | None = None, **kwargs: Any
    ) -> Any:
        """Return the answer as a chat completion; raises litellm's errors."""
        use_cache = kwargs.pop("cache", self.cache)
        request = self._request(prompt, messages, kwargs)
        answer = _cached(self._answer) if use_cache else self._answer
        with failing_once(dspy.settings.caller_modules), dspy_errors(self.model):
            return self._accounted(answer(request=request), request)

    async def aforward(
        self, prompt: str | None = None, messages: list[dict[str, Any]] | None = None, **kwargs: Any
    ) -> Any:
        """`forward` for a running event loop."""
        use_cache = kwargs.pop("cache", self.cache)
        request = self._request(prompt, messages, kwargs)
        answer = _cached(self._aanswer) if use_cache else self._aanswer
        with failing_once(dspy.settings.caller_modules), dspy_errors(self.model):
            return self._accounted(await answer(request=request), request)

    def dump_state(self) -> dict[str, Any]:
        """Save DSPy's own LM for the same server, because DSPy cannot load any other class."""
        log.warning(
            "engine %r: this DSPy saves and loads only its own LM, and no key; after load() give "
            "the program the engine again: program.set_lm(to_lm(...))",
            self.asker.engine.name,
        )
        state: dict[str, Any] = native_lm(self.asker.engine, **self.kwargs).dump_state()
        for secret in ("api_key", "extra_headers"):
            state.pop(secret, None)
        return state

    def _request(self, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Everything that decides the answer; the cache makes its key of it."""
        asked = messages or [{"role": "user", "content": prompt}]
        return {"model": self.model, "messages": asked, **self.kwargs, **kwargs}

    def _answer(self, request: dict[str, Any]) -> Any:
        question = _question(request)
        if dspy.settings.send_stream is not None and question.count == 1:
            return send_all(self.asker.stream(question), self.model)
        return self._body(self.asker.ask(question))

    async def _aanswer(self, request: dict[str, Any]) -> Any:
        question = _question(request)
        if dspy.settings.send_stream is not None and question.count == 1:
            return await asend_all(self.asker.astream(question), self.model)
        return self._body(await self.asker.aask(question))

    def _body(self, output: LLMOutput) -> Any:
        return litellm.ModelResponse(**chat_body(output, model=self.asker.engine.model))

    def _accounted(self, response: Any, request: dict[str, Any]) -> Any:
        reasons = [choice.finish_reason for choice in response.choices]
        warn_if_cut(self.asker.engine.name, reasons, request.get("max_tokens"))
        tracker = dspy.settings.usage_tracker
        if tracker is not None and not getattr(response, "cache_hit", False):
            tracker.add_usage(self.model, dict(response.usage))
        return response


make = EngineLM


def _question(request: dict[str, Any]) -> DSPyRequest:
    arguments = dict(request)
    return read_question(arguments.pop("messages"), arguments)
