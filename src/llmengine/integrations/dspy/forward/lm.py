"""The language model of a DSPy from 2.5 to 3.3, which asks litellm; ours asks an engine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import dspy
import litellm
from dspy.clients.cache import request_cache
from dspy.clients.provider import Provider

from llmengine.integrations.dspy.chat_body import chat_body
from llmengine.integrations.dspy.cut import warn_if_cut
from llmengine.integrations.dspy.forward.declaring import declare
from llmengine.integrations.dspy.forward.errors import dspy_errors
from llmengine.integrations.dspy.forward.fallbacks import failing_once
from llmengine.integrations.dspy.forward.stream import asend_all, send_all
from llmengine.integrations.dspy.native import native_lm
from llmengine.integrations.dspy.question import read_question

if TYPE_CHECKING:
    from llmengine.integrations.dspy.asker import Asker
    from llmengine.integrations.dspy.question import Question
    from llmengine.types.outputs import LLMOutput

log = logging.getLogger("llmengine")

_cached = request_cache(cache_arg_name="request")


class EngineLM(dspy.LM):  # type: ignore[misc]  # dspy has no types
    """A ``dspy.LM`` whose calls go to an engine, which retries; DSPy's cache is keyed by it.

    ``history``, usage, callbacks and copies are DSPy's own.
    """

    def __init__(self, asker: Asker, **arguments: Any) -> None:
        # Adapters look capabilities up by the model's name, and litellm knows the prefix.
        name = declare(asker.engine, f"openai/{asker.identity}", has_schemas=True)
        super().__init__(name, num_retries=0, **{"provider": Provider()} | arguments)
        self.asker = asker

    def forward(
        self, prompt: str | None = None, messages: list[dict[str, Any]] | None = None, **kwargs: Any
    ) -> Any:
        """The answer as a chat completion; raises litellm's kinds of error."""
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
        """What DSPy saves: its own LM at the same server, since it loads no other class."""
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
        """All that decides over the answer, which is what the cache's key is made of."""
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


def _question(request: dict[str, Any]) -> Question:
    arguments = dict(request)
    return read_question(arguments.pop("messages"), arguments)
