"""The language model of DSPy 2.4: a prompt in, a list of texts out."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, Self

import dspy

from llmengine.integrations.dspy.asker import Asker
from llmengine.integrations.dspy.chat_body import chat_body
from llmengine.integrations.dspy.cut import warn_if_cut
from llmengine.integrations.dspy.legacy.prompt_schema import asked_schema
from llmengine.integrations.dspy.question import read_question
from llmengine.integrations.dspy.source import engine_of

if TYPE_CHECKING:
    from llmengine.integrations.dspy.source import Source

# Enough for a typed answer; 2.4's own 150 cuts most of them.
_MAX_TOKENS = 1000


class LegacyLM(dspy.LM):  # type: ignore[misc]  # dspy has no types
    """A ``dspy.LM`` of 2.4 whose calls go to an engine.

    Where a TypedPredictor asks for one JSON object, the server is held to its schema.
    ``output_model`` does so for every answer. Errors are those of llmengine: this DSPy has none
    of its own.
    """

    def __init__(self, asker: Asker, *, output_model: Any = None, **arguments: Any) -> None:
        super().__init__(asker.engine.model)
        self.asker = asker
        self.output_model = output_model
        # Predict reads the temperature, and dsp.generate the token limit, so both must be there.
        defaults = {"temperature": 0.0, "max_tokens": _MAX_TOKENS, "n": 1}
        configured = asker.engine.config.sampling.given()
        self.kwargs = {"model": asker.engine.model} | defaults | configured | arguments

    def __call__(
        self,
        prompt: str,
        only_completed: bool = True,  # noqa: ARG002 - the interface of 2.4
        return_sorted: bool = False,  # noqa: ARG002 - the interface of 2.4
        **kwargs: Any,
    ) -> list[str]:
        """The texts of the answers; raises llmengine's CallError."""
        choices = self.request(prompt, **kwargs)["choices"]
        limit = kwargs.get("max_tokens", self.kwargs["max_tokens"])
        warn_if_cut(self.asker.engine.name, [c["finish_reason"] for c in choices], limit)
        return [choice["text"] for choice in choices]

    def basic_request(self, prompt: str, **kwargs: Any) -> dict[str, Any]:
        """Ask the engine, and keep what was said in the history."""
        asked = self.kwargs | kwargs
        question = read_question(prompt, self._with_model(prompt, asked))
        body = chat_body(self.asker.ask(question), model=self.asker.engine.model)
        for choice in body["choices"]:
            choice["text"] = choice["message"]["content"] or ""  # where inspect_history looks
        entry = {"prompt": prompt, "response": body, "kwargs": asked, "raw_kwargs": kwargs}
        self.history.append(entry)
        return body

    def copy(self, **kwargs: Any) -> Self:
        """A copy with other parameters, and the same engine."""
        twin = copy(self)
        twin.kwargs = self.kwargs | kwargs
        twin.history = []
        return twin

    def _with_model(self, prompt: str, asked: dict[str, Any]) -> dict[str, Any]:
        if asked.get("output_model") or self.output_model:
            return {"output_model": self.output_model} | asked
        schema = asked_schema(prompt)
        return asked if schema is None else asked | {"output_model": schema}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __json__(self) -> str:
        """What `module.save` writes of it: nothing, so that a loaded program asks the settings."""
        return "null"


class DSPyLLMWrapper(LegacyLM):
    """The language model over a worker, or over an engine or its configuration."""

    def __init__(self, worker: Source, **arguments: Any) -> None:
        super().__init__(Asker(engine_of(worker)), **arguments)
        self.worker = worker


make = LegacyLM
