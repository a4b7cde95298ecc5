"""The language models for DSPy 2.4: over an engine, and DSPy's own client for a server."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, Self

import dspy
import openai

from llmengine.integrations.dspy.adapter import (
    NO_KEY,
    DSPyEngine,
    chat_body,
    engine_of,
    read_request,
    schema_in_prompt,
    warn_if_cut,
)
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from llmengine.engine.engine import Engine
    from llmengine.integrations.dspy.adapter import JSON, LMSource


class _CopiedAndSaved:
    """How the language models of this module are copied and saved."""

    kwargs: JSON
    history: list[JSON]

    def copy(self, **kwargs: object) -> Self:
        """A copy with other parameters for the same server, and with an empty history."""
        duplicate = copy(self)
        duplicate.kwargs = self.kwargs | kwargs
        duplicate.history = []
        return duplicate

    def __json__(self) -> str:
        """`module.save` writes nothing, so that a loaded program uses the LM in the settings."""
        return "null"


# Enough for a typed answer; the default of DSPy 2.4, 150, cuts most of them.
_MAX_TOKENS = 1000


class LegacyLM(_CopiedAndSaved, dspy.LM):  # type: ignore[misc]  # dspy has no types
    """A ``dspy.LM`` for DSPy 2.4 whose calls go to an engine.

    It takes a prompt and returns a list of texts. If a TypedPredictor asks for one JSON object,
    the server has to follow its schema. ``output_model`` sets a schema for every answer. Errors are
    those of llmengine, because this DSPy has none of its own.
    """

    def __init__(
        self, dspy_engine: DSPyEngine, *, output_model: object = None, **arguments: object
    ) -> None:
        engine = dspy_engine.engine
        super().__init__(engine.model)
        self.dspy_engine = dspy_engine
        self.output_model = output_model
        # Predict reads the temperature and dsp.generate reads the token limit, so both must be set.
        defaults = {"temperature": 0.0, "max_tokens": _MAX_TOKENS, "n": 1}
        self.kwargs = (
            {"model": engine.model} | defaults | engine.config.sampling.given() | arguments
        )

    def __call__(
        self,
        prompt: str,
        only_completed: bool = True,  # noqa: ARG002 - the interface of 2.4
        return_sorted: bool = False,  # noqa: ARG002 - the interface of 2.4
        **kwargs: Any,
    ) -> list[str]:
        """Return the texts of the answers; raises llmengine's CallError."""
        choices = self.request(prompt, **kwargs)["choices"]
        limit = kwargs.get("max_tokens", self.kwargs["max_tokens"])
        warn_if_cut(self.dspy_engine.engine.name, [c["finish_reason"] for c in choices], limit)
        return [choice["text"] for choice in choices]

    def basic_request(self, prompt: str, **kwargs: object) -> JSON:
        """Send the request to the engine and add it to the history."""
        arguments = self.kwargs | kwargs
        request = read_request(prompt, self._with_schema(prompt, arguments))
        output = self.dspy_engine.generate(request)
        completion = chat_body(output, model=self.dspy_engine.engine.model)
        # inspect_history reads the key "text".
        choices = [{**c, "text": c["message"]["content"] or ""} for c in completion["choices"]]
        body: JSON = {**completion, "choices": choices}
        entry = {"prompt": prompt, "response": body, "kwargs": arguments, "raw_kwargs": kwargs}
        self.history.append(entry)
        return body

    def _with_schema(self, prompt: str, arguments: JSON) -> JSON:
        if arguments.get("output_model") or self.output_model:
            return {"output_model": self.output_model} | arguments
        schema = schema_in_prompt(prompt)
        return arguments if schema is None else arguments | {"output_model": schema}

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self


class DSPyLLMWrapper(LegacyLM):
    """The language model over a worker, an engine or a configuration."""

    def __init__(self, worker: LMSource, **arguments: Any) -> None:
        super().__init__(DSPyEngine(engine_of(worker)), **arguments)
        self.worker = worker


_SERVER_HEADER = "X-LLMEngine-Server"


class NativeOpenAI(_CopiedAndSaved, dspy.OpenAI):  # type: ignore[misc]  # dspy has no types
    """A ``dspy.OpenAI`` that sends requests only to its own server.

    ``dspy.OpenAI`` sets the address for the whole process, so the instance that was made last
    decides which server all instances use. This class raises an error instead of using another
    server. DSPy's cache ignores the address but not the headers, so the address is also sent in a
    header.
    """

    def __init__(self, engine: Engine, **arguments: Any) -> None:
        # Without the slash the SDK would replace the last part of the path.
        self.address = f"{engine.base_url}/"
        headers = {_SERVER_HEADER: engine.root_url} | arguments.pop("extra_headers", {})
        super().__init__(
            engine.model,
            api_key=engine.api_key or NO_KEY,
            api_base=self.address,
            model_type="chat",
            extra_headers=headers,
            **arguments,
        )

    def basic_request(self, prompt: str, **kwargs: object) -> object:
        """Send the request; raises ConfigError if the process now uses another server."""
        if str(openai.base_url) != self.address:
            raise ConfigError(
                f"another dspy.OpenAI has set the address of this process to {openai.base_url}, "
                f"so this one cannot reach {self.address}; DSPy 2.4 has one address per process: "
                "use to_lm(), whose models have their own"
            )
        return super().basic_request(prompt, **kwargs)


make_lm = LegacyLM
